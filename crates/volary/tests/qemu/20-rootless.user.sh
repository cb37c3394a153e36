# Without root: a user namespace, a delegated group, a plain folder as worktree.
. /tests/claims
home=/home/tester/volary
mkdir -m 0711 $home && mkdir $home/profiles
printf '[limits]\nmemory-mib = 64\nprocesses = 32\nscratch-mib = 16\nworktree-mib = 64\n' >$home/profiles/small.toml
printf '[limits]\nmemory-mib = 512\nscratch-mib = 16\nworktree-mib = 64\n' >$home/profiles/disk.toml

claim 'the doctor is green without root' volary doctor
says 'the doctor says what is weaker' 'not enforced' volary doctor
says 'reach says it too' 'without root' volary --home $home reach small

volary --home $home up --port 0 --json >/home/tester/up.out 2>/home/tester/up.err </dev/null &
up=$!
eventually 'the platform gets ready without root' grep '"ready":true' /home/tester/up.out
grep -q ready /home/tester/up.out || sed 's/^/| /' /home/tester/up.err $home/log/*

in_box() { volary --home $home exec --profile small -- "$@"; }
attack() { in_box sh -c 'cat >/workspace/a && chmod +x /workspace/a && /workspace/a "$@"' sh "$@" </tests/attacks; }

says 'a command runs in a box without root' "hello from $(uname -r)" in_box sh -c 'echo hello from $(uname -r)'
in_box sh -c 'exit 7'
claim 'its exit status comes out without root' test $? = 7
claim 'it has no capability, no new privileges and a filter, without root' in_box sh -c \
	'grep -q "CapBnd:.0000000000000000" /proc/self/status && grep -q "NoNewPrivs:.1" /proc/self/status &&
	grep -q "Seccomp:.2" /proc/self/status'
claim 'it has no interface but lo, without root' in_box sh -c \
	'test "$(tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d " ")" = lo'
says 'a 33rd process is refused, without root' 'fork' in_box sh -c \
	'n=0; while [ $n -lt 40 ]; do sleep 600 & n=$((n + 1)); done'
refuse '64 MiB of memory are the end of it, without root' in_box sh -c 'head -c 200000000 /dev/zero | tail >/workspace/held'
# The home lies in memory here: what the box writes to its worktree is its memory, too.
says 'a worktree that holds too much ends its box, without root' 'killed: worktree limit 64 MiB' \
	volary --home $home exec --profile disk -- sh -c 'head -c 100000000 /dev/zero >/workspace/big; sleep 600'
refuse 'the home of the user is not there' in_box sh -c 'ls /home/tester'

# Without root the box's one uid is 0 of its own user namespace: becoming it is no attack there.
names=$(/tests/attacks | grep -vx become-root)
attack $names >/home/tester/met 2>&1
for name in $names; do
	met=$(grep "^$name " /home/tester/met)
	case $met in
	*" errno "*) echo "ok refused without root: $met" ;;
	*) echo "fail without root the attack $name: $met" ;;
	esac
done
grep -q ' errno ' /home/tester/met || sed 's/^/| /' /home/tester/met

volary --home $home exec --profile small -- sleep 1000 >/dev/null 2>&1 &
sleeper=$!
await sh -c "volary --home $home status --json | grep -q '\"name\": \"sleep\"'"
claim 'status finds every wall of the platform and of a live box, without root' sh -c \
	"volary --home $home status >/home/tester/status; status=\$?; cat /home/tester/status
	grep -q '^box ' /home/tester/status && exit \$status"
kill -TERM $sleeper
wait $sleeper

kill -TERM $up
wait $up
claim 'the platform ends on request, without root' test $? = 0
eventually 'it leaves no control group, without root' sh -c '! find /sys/fs/cgroup/delegated -type d -name "volary-*" | grep -v volary-up | grep .'

# The whole of what a newcomer does, by a person without root.
volary demo --exit --json >/home/tester/demo 2>&1
demo=$?
claim 'the demo does its task and every wall holds, without root' sh -c "test $demo = 0 || { tail -n 300 /home/tester/demo; exit 1; }"
