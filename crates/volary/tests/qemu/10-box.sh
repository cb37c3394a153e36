# Boxes as root on Debian's own kernel: cgroup v2, Landlock ABI 2.
. /tests/claims
home=/var/lib/volary-t
mkdir -m 0711 $home && mkdir $home/profiles
printf '[limits]\nmemory-mib = 64\nprocesses = 32\nscratch-mib = 16\nworktree-mib = 64\n' >$home/profiles/small.toml

claim 'the doctor is green' volary doctor
says 'the doctor says which level signals need' 'not scoped below ABI 6' volary doctor

volary --home $home up --port 0 --json >/run/up.out 2>/run/up.err </dev/null &
up=$!
n=0
until grep -q '"ready":true' /run/up.out || [ $n -ge 90 ]; do sleep 1; n=$((n + 1)); done
claim 'the platform gets ready' grep '"ready":true' /run/up.out
grep -q ready /run/up.out || sed 's/^/| /' /run/up.err $home/log/*

in_box() { volary --home $home exec --profile small -- "$@"; }
# The program goes in by standard input: nothing of the host but the listed tree is in a box.
attack() { in_box sh -c 'cat >/workspace/a && chmod +x /workspace/a && /workspace/a "$@"' sh "$@" </tests/attacks; }

says 'a command runs in a box and its output comes out' 'hello from 6.1' in_box sh -c 'echo hello from $(uname -r)'
in_box sh -c 'exit 7'
claim 'its exit status comes out' test $? = 7
claim 'what it reads on its input comes out' sh -c "echo through | volary --home $home exec -- cat | grep -qx through"
claim 'it has no capability, no new privileges and a filter' in_box sh -c \
	'grep -q "CapBnd:.0000000000000000" /proc/self/status && grep -q "NoNewPrivs:.1" /proc/self/status &&
	grep -q "Seccomp:.2" /proc/self/status'
claim 'it is not root' in_box sh -c 'test $(id -u) != 0'
claim 'it has no interface but lo' in_box sh -c 'test "$(tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d " ")" = lo'
says 'a 33rd process is refused' 'fork' in_box sh -c \
	'n=0; while [ $n -lt 40 ]; do sleep 3 & n=$((n + 1)); done; wait'
refuse '64 MiB of memory are the end of it' in_box sh -c 'head -c 200000000 /dev/zero | tail >/workspace/held'
refuse '16 MiB of scratch space are the end of it' in_box sh -c 'head -c 40000000 /dev/zero >/tmp/big'
refuse '64 MiB of worktree are the end of it' in_box sh -c 'head -c 100000000 /dev/zero >/workspace/big'

for name in $(/tests/attacks); do
	said=$(attack $name 2>&1)
	if [ $? -eq 0 ]; then
		echo "ok refused here too: $said"
	else
		echo "fail the attack $name: $said"
	fi
done

kill -TERM $up
claim 'the platform ends on request' wait $up
claim 'it leaves no mount' sh -c "! grep $home /proc/*/mountinfo"
claim 'it leaves no loop device' sh -c "! cat /sys/block/loop*/loop/backing_file 2>/dev/null | grep ."
claim 'it leaves no control group' sh -c '! ls -d /sys/fs/cgroup/volary-*'
claim 'it leaves no process' sh -c "! grep -l $home /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null | grep -v self | grep -v \"/\$\$/\" | grep ."
