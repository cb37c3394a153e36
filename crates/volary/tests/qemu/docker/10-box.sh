# Boxes of Docker's where systemd keeps the control groups: a slice for each, read back, bounded, stopped and taken away.
. /tests/claims
home=/var/lib/volary-t
mkdir -m 0711 $home && mkdir $home/profiles
limits='[limits]\nmemory-mib = 64\nprocesses = 32\nscratch-mib = 16\nworktree-mib = 64\n'
printf "engine = \"docker\"\n${limits}cpu-millis = 1230\n" >$home/profiles/small.toml
printf "engine = \"embedded\"\n$limits" >$home/profiles/own.toml

claim 'the doctor is green beside systemd' volary doctor
says 'the doctor says that Docker makes boxes under systemd' 'control groups by systemd, apparmor, seccomp, cgroupns: every wall' \
	volary doctor

up() {
	volary --home $home up --warm 0 --port 0 --json >/run/up.out 2>/run/up.err </dev/null &
	up=$!
	eventually "the platform gets ready ($1)" grep '"ready":true' /run/up.out
	grep -q ready /run/up.out || sed 's/^/| /' /run/up.err $home/log/*
}
in_box() { volary --home $home exec --profile small -- "$@"; }
slices() { find /sys/fs/cgroup/volary.slice -mindepth 2 -type d -name 'volary-*-*.slice'; }
boxes() { docker ps -a -q; }

up 'under systemd'
in_box sh -c 'cat; cat /proc/self/status; id -u; cut -d: -f1 /proc/net/dev; cat /proc/self/cgroup /proc/self/attr/current; exit 7' \
	</proc/sys/kernel/osrelease >/run/facts 2>&1
claim 'a command'\''s exit status comes out of a box of Docker'\''s' test $? = 7
claim 'its input and its output pass there' test "$(sed -n 1p /run/facts)" = "$(uname -r)"
claim 'it has no capability there' grep -q 'CapBnd:.0000000000000000' /run/facts
claim 'it can get no new privileges there' grep -q 'NoNewPrivs:.1' /run/facts
claim 'it has a system call filter there' grep -q 'Seccomp:.2' /run/facts
claim 'it is not root there' sh -c '! grep -q "^0$" /run/facts'
claim 'it has no interface but lo there' test "$(grep -c '^ *lo$' /run/facts)" = 1
claim 'AppArmor'\''s profile of Docker'\''s holds it too' grep -qx 'docker-default (enforce)' /run/facts
claim 'it does not see which control group it is in' grep -qx '0::/' /run/facts

in_box sh -c 'n=0; while [ $n -lt 40 ]; do sleep 600 & n=$((n + 1)); done' >/run/bomb 2>&1
claim 'a 33rd process is refused there' grep -i fork /run/bomb
claim 'and the limit that it met has a name' grep 'met the limit of 32 processes' /run/bomb
says 'memory there ends what takes too much, and the limit has a name' 'killed: memory limit 64 MiB' \
	in_box sh -c 'head -c 200000000 /dev/zero | tail >/workspace/held'

in_box sh -c 'cat >/workspace/a && chmod +x /workspace/a && /workspace/a "$@"' sh $(/tests/attacks) \
	</tests/attacks >/run/attacks 2>&1
for name in $(/tests/attacks); do
	claim "refused in a box of Docker's: $(grep "^$name " /run/attacks || echo $name)" grep -q "^$name errno [1-9]" /run/attacks
done
eventually 'a box that is over leaves no slice' sh -c '! find /sys/fs/cgroup/volary.slice -name "volary-*-*.slice" | grep .'
claim 'and systemd knows of none' sh -c '! systemctl list-units --all --plain --no-legend "volary-*-*.slice" | grep .'

# A box at work: where it is, and that it can be stopped and ended.
begin() {
	in_box sh -c 'n=0; while :; do n=$((n + 1)); echo $n >/workspace/next; mv /workspace/next /workspace/count; done' >/dev/null 2>&1 &
	client=$!
	await sh -c "volary --home $home status --json | grep -q '\"name\": \"sh\"'"
	slice=$(slices) id=$(boxes)
	group=$slice/docker-$(docker inspect --format '{{.Id}}' $id).scope
	first=$(docker inspect --format '{{.State.Pid}}' $id)
	run=$(volary --home $home runs --json | tr '{' '\n' | sed -n 's/.*"run": *"\([a-z0-9]*\)".*/\1/p' | head -n 1)
}
count() { cat /proc/$first/root/workspace/count 2>/dev/null || echo 0; }
begin
claim 'its process 1 is in a scope of the box'\''s own slice' grep -qx "0::${group#/sys/fs/cgroup}" /proc/$first/cgroup
limits() {
	sh -c "cd '$group' && grep -H . memory.max pids.max cpu.max memory.swap.max && grep -qx 67108864 memory.max &&
		grep -qx 32 pids.max && grep -qx '123000 100000' cpu.max && grep -qx 0 memory.swap.max"
}
claim 'its limits are those of the profile' limits
claim 'status finds every wall of it' sh -c \
	"volary --home $home status >/run/status; status=\$?; cat /run/status; grep -q '^box ' /run/status && exit \$status"
systemctl daemon-reload
claim 'none of them changes when systemd reads its units again' limits
claim 'it is paused' volary --home $home pause $run
still=$(count)
systemctl daemon-reload
claim 'the kernel says that it stands still' grep -qx 'frozen 1' $group/cgroup.events
sleep 12
claim 'it stood still' test "$still" = "$(count)"
claim 'it is resumed' volary --home $home resume $run
eventually 'it goes on' sh -c "test \$(cat /proc/$first/root/workspace/count) -gt $still"
claim 'it is paused again' volary --home $home pause $run
claim 'it is ended where it stands' volary --home $home cancel $run
wait $client
eventually 'and nothing of it is left' sh -c "! test -d '$slice' && ! docker ps -a -q | grep ."

# Everything of the platform dies at once: the next start takes away what is left of its boxes.
begin
kill -9 $up $(pgrep -x volary) $(pgrep -f 'process box-helper')
wait $client $up 2>/dev/null
claim 'an orphan lives on' test -d "$slice"
up 'after its death'
eventually 'an orphan is taken away by the next start' sh -c "! test -d '$slice' && ! docker ps -a -q | grep ."
says 'boxes are made as before' 'hello' in_box echo hello
says 'the platform'\''s own engine makes boxes beside systemd' 'hello' volary --home $home exec --profile own -- echo hello

kill -TERM $up
wait $up
claim 'the platform ends on request, under systemd' test $? = 0
eventually 'it leaves no mount of Docker'\''s boxes' sh -c "! grep $home /proc/*/mountinfo"
eventually 'it leaves no loop device of theirs' sh -c "! cat /sys/block/loop*/loop/backing_file 2>/dev/null | grep ."
eventually 'it leaves no slice' sh -c '! ls -d /sys/fs/cgroup/volary-* /sys/fs/cgroup/volary.slice/volary-* | grep .'
eventually 'it leaves no unit' sh -c '! systemctl list-units --all --plain --no-legend "volary-*" | grep .'
