# Boxes as root on Debian's own kernel: cgroup v2, and the Landlock ABI of that kernel (2 in Debian 12).
. /tests/claims
home=/var/lib/volary-t
mkdir -m 0711 $home && mkdir $home/profiles
printf '[limits]\nmemory-mib = 64\nprocesses = 32\nscratch-mib = 16\nworktree-mib = 64\n' >$home/profiles/small.toml
# The home lies in memory here, so what the box writes to its worktree counts as its memory too.
printf '[limits]\nmemory-mib = 512\nscratch-mib = 16\nworktree-mib = 64\n' >$home/profiles/disk.toml

claim 'the doctor is green' volary doctor
says 'the doctor says which Landlock level this is' "ABI $(/tests/landlock-abi)" volary doctor
if [ "$(/tests/landlock-abi)" -lt 6 ]; then
	says 'the doctor says which level signals need' 'not scoped below ABI 6' volary doctor
fi

volary --home $home up --port 0 --json >/run/up.out 2>/run/up.err </dev/null &
up=$!
beside /run/up.out /run/up.err "$home/log/*"
eventually 'the platform gets ready' grep '"ready":true' /run/up.out

in_box() { volary --home $home exec --profile small -- "$@"; }

# The very first boxes, beside the one that is made ahead of its run: whatever boxes have in common is made at one time by all.
first=
for n in 1 2 3; do
	in_box sh -c 'exit 7' >/run/first-$n 2>&1 &
	first="$first $!"
done
met=
for pid in $first; do
	wait $pid
	met="$met $?"
done
beside "/run/first-*" /run/up.err "$home/log/*"
claim 'the first boxes are made at the same time' test "$met" = ' 7 7 7'

in_box sh -c 'cat; uname -r; cat /proc/self/status; id -u; cut -d: -f1 /proc/net/dev; exit 7' \
	</proc/sys/kernel/osrelease >/run/facts 2>&1
status=$?
beside /run/facts /run/up.err "$home/log/*"
claim 'a command'\''s exit status comes out' test $status = 7
claim 'its input and its output pass' test "$(sed -n 1p /run/facts)" = "$(sed -n 2p /run/facts)"
claim 'it has no capability' grep -q 'CapBnd:.0000000000000000' /run/facts
claim 'it can get no new privileges' grep -q 'NoNewPrivs:.1' /run/facts
claim 'it has a system call filter' grep -q 'Seccomp:.2' /run/facts
claim 'it is not root' sh -c '! grep -q "^0$" /run/facts'
claim 'it has no interface but lo' test "$(tail -n 1 /run/facts | tr -d ' ')" = lo

# None of them ends before the last is asked for, however slow the machine; all end with the box.
says 'a 33rd process is refused' 'fork' in_box sh -c 'n=0; while [ $n -lt 40 ]; do sleep 600 & n=$((n + 1)); done'
refuse '64 MiB of memory are the end of it' in_box sh -c 'head -c 200000000 /dev/zero | tail >/workspace/held'
volary --home $home exec --profile disk -- sh -c \
	'head -c 40000000 /dev/zero >/tmp/big; head -c 100000000 /dev/zero >/workspace/big' >/run/disk 2>&1
beside /run/disk /run/up.err "$home/log/*"
claim 'scratch space and worktree have an end each' sh -c \
	'test $(grep -c "No space left on device" /run/disk) = 2'

# The program goes in by standard input: nothing of the host but the listed tree is in a box.
port=$(sed -n 's|.*http://127.0.0.1:\([0-9]*\).*|\1|p' /run/up.out | head -n 1)
in_box sh -c 'cat >/workspace/a && chmod +x /workspace/a && /workspace/a "$@"' sh "$port" $(/tests/attacks) \
	</tests/attacks >/run/attacks 2>&1
beside /run/attacks /run/up.err "$home/log/*"
for name in $(/tests/attacks); do
	claim "refused here too: $(grep "^$name " /run/attacks || echo $name)" grep -q "^$name refused\$" /run/attacks
done
# Whoever is root outside meets none of these walls: it goes through, or fails for another reason (this guest's own loopback is down
# as yet, a box's is up and empty).
for name in host-console user-namespace mount-namespace raw-socket packet-socket netlink-socket io-uring bpf perf keyring \
	userfault memory-file personality-exec environ-of-1 memory-of-1 kernel-log sysctl-core; do
	/tests/attacks "$port" $name >/run/outside 2>&1
	beside /run/outside
	claim "no wall outside: $(cat /run/outside)" grep -q "^$name WENT THROUGH\$\|^$name errno .* not the wall's\$" /run/outside
done

# Below level 6 Landlock lets a command signal process 1, as the doctor says; the status that comes out is told by process 1.
met=refused
volary doctor | grep -q 'not scoped below ABI 6' && met=sent
in_box sh -c 'cat >/workspace/s && chmod +x /workspace/s && /workspace/s "$1" && exit 7' sh $met </tests/signals >/run/signals 2>&1
status=$?
beside /run/signals /run/up.err "$home/log/*"
claim "process 1 answers after every signal there is, each of them $met" test $status = 7

volary --home $home exec --profile small -- sleep 1000 >/dev/null 2>&1 &
sleeper=$!
beside /run/up.err "$home/log/*"
await sh -c "volary --home $home status --json | grep -q '\"name\": \"sleep\"'"
claim 'status finds every wall of the platform and of a live box' sh -c \
	"volary --home $home status >/run/status; status=\$?; cat /run/status; grep -q '^box ' /run/status && exit \$status"
kill -TERM $sleeper
wait $sleeper

kill -TERM $up
wait $up
claim 'the platform ends on request' test $? = 0
# What was killed may be a moment on its way out.
eventually 'it leaves no mount' sh -c "! grep $home /proc/*/mountinfo"
eventually 'it leaves no loop device' sh -c "! cat /sys/block/loop*/loop/backing_file 2>/dev/null | grep ."
eventually 'it leaves no control group' sh -c '! ls -d /sys/fs/cgroup/volary-*'
eventually 'it leaves no process' sh -c '! pgrep volary'
