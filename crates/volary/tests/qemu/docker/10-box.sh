# Boxes of Docker's where systemd keeps the control groups: a slice for each, read back, bounded, stopped and taken away.
. /tests/claims
. /tests/shared
home=/var/lib/volary-t
begin_home
claim 'the doctor is green beside systemd' volary doctor
says 'the doctor says that Docker makes boxes under systemd' 'control groups by systemd, apparmor, seccomp, cgroupns: every wall' \
	volary doctor

up 'under systemd'
in_box sh -c 'cat; cat /proc/self/status; id -u; cut -d: -f1 /proc/net/dev; cat /proc/self/cgroup /proc/self/attr/current; exit 7' \
	</proc/sys/kernel/osrelease >/run/facts 2>&1
status=$?
beside /run/facts /run/up.err "$home/log/*"
claim "a command's exit status comes out of a box of Docker's" test $status = 7
claim 'its input and its output pass there' test "$(sed -n 1p /run/facts)" = "$(uname -r)"
claim 'it has no capability there' grep -q 'CapBnd:.0000000000000000' /run/facts
claim 'it can get no new privileges there' grep -q 'NoNewPrivs:.1' /run/facts
claim 'it has a system call filter there' grep -q 'Seccomp:.2' /run/facts
claim 'it is not root there' sh -c '! grep -q "^0$" /run/facts'
claim 'it has no interface but lo there' test "$(grep -c '^ *lo$' /run/facts)" = 1
claim "AppArmor's profile of Docker's holds it too" grep -qx 'docker-default (enforce)' /run/facts
claim 'it does not see which control group it is in' grep -qx '0::/' /run/facts

# The attacks of the other guest.
port=$(sed -n 's|.*http://127.0.0.1:\([0-9]*\).*|\1|p' /run/up.out | head -n 1)
in_box sh -c 'cat >/workspace/a && chmod +x /workspace/a && /workspace/a "$@"' sh "$port" $(/tests/attacks) \
	</tests/attacks >/run/attacks 2>&1
beside /run/attacks /run/up.err "$home/log/*"
for name in $(/tests/attacks); do
	claim "refused in a box of Docker's: $(grep "^$name " /run/attacks || echo $name)" grep -q "^$name refused\$" /run/attacks
done

# Below level 6 Landlock lets a command signal process 1, as the doctor says; the status that comes out is told by process 1.
met=refused
volary doctor | grep -q 'not scoped below ABI 6' && met=sent
in_box sh -c 'cat >/workspace/s && chmod +x /workspace/s && /workspace/s "$1" && exit 7' sh $met </tests/signals >/run/signals 2>&1
status=$?
beside /run/signals /run/up.err "$home/log/*"
claim "process 1 answers after every signal there is, each of them $met, in a box of Docker's" test $status = 7

in_box sh -c 'n=0; while [ $n -lt 40 ]; do sleep 600 & n=$((n + 1)); done' >/run/bomb 2>&1
beside /run/bomb /run/up.err "$home/log/*"
claim 'a 33rd process is refused there' grep -i fork /run/bomb
claim 'and the limit that it met has a name' grep 'met the limit of 32 processes' /run/bomb
says 'memory there ends what takes too much, and the limit has a name' 'killed: memory limit 64 MiB' \
	in_box sh -c 'head -c 200000000 /dev/zero | tail >/workspace/held'
id=none group=/volary.slice/none/none
eventually 'boxes that are over leave no slice' nothing_left

base32='[a-z2-7]*'
at_work 'under systemd' "/volary\.slice/volary-$base32\.slice/volary-$base32-$base32\.slice/docker-[0-9a-f]*\.scope"
says "the platform's own engine makes boxes beside systemd" 'hello' volary --home $home exec --profile own -- echo hello
down 'under systemd'
