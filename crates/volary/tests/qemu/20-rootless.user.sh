# Without root: a user namespace, a delegated group, a plain folder as worktree; images.
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
beside /home/tester/up.out /home/tester/up.err "$home/log/*"
eventually 'the platform gets ready without root' grep '"ready":true' /home/tester/up.out

in_box() { volary --home $home exec --profile small -- "$@"; }
attack() { in_box sh -c 'cat >/workspace/a && chmod +x /workspace/a && /workspace/a "$@"' sh "$@" </tests/attacks; }

says 'a command runs in a box without root' "hello from $(uname -r)" in_box sh -c 'echo hello from $(uname -r)'
in_box sh -c 'exit 7' >/home/tester/seven 2>&1
status=$?
beside /home/tester/seven /home/tester/up.err "$home/log/*"
claim 'its exit status comes out without root' test $status = 7
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

# port FILE: that of the console, as up said it.
port() { sed -n 's|.*http://127.0.0.1:\([0-9]*\).*|\1|p' "$1" | head -n 1; }
# Without root the box's one uid is 0 of its own user namespace: becoming it is no attack there.
names=$(/tests/attacks | grep -vx become-root)
attack "$(port /home/tester/up.out)" $names >/home/tester/met 2>&1
beside /home/tester/met /home/tester/up.err "$home/log/*"
for name in $names; do
	met=$(grep "^$name " /home/tester/met)
	case $met in
	*" refused") echo "ok refused without root: $met" ;;
	*) failed "without root the attack $name: $met" ;;
	esac
done

# Below level 6 Landlock lets a command signal process 1, as the doctor says; the status that comes out is told by process 1.
met=refused
volary doctor | grep -q 'not scoped below ABI 6' && met=sent
in_box sh -c 'cat >/workspace/s && chmod +x /workspace/s && /workspace/s "$1" && exit 7' sh $met </tests/signals >/home/tester/signals 2>&1
status=$?
beside /home/tester/signals /home/tester/up.err "$home/log/*"
claim "process 1 answers after every signal there is, each of them $met, without root" test $status = 7

# Two boxes at once, as tests/escape/side_by_side.rs has them: one holds, and the other seeks what it knows by name.
side() { in_box sh -c 'head -c '$(wc -c </tests/side_by_side)' >/tmp/s && chmod +x /tmp/s && exec /tmp/s "$@"' sh "$@"; }
mkfifo /home/tester/hold
{ cat /tests/side_by_side /home/tester/hold; } | side hold mark-side >/home/tester/own 2>&1 &
holder=$!
exec 9>/home/tester/hold
beside /home/tester/own /home/tester/up.err "$home/log/*"
eventually 'a box holds what another one is to seek, without root' grep -q '^ready ' /home/tester/own
seen=$(pgrep -f '^/tmp/s hold mark-side')
claim 'the holder is a process of the host, without root' test -n "$seen"
side seek "${seen:-0}" "$(sed -n 's/^ready //p' /home/tester/own)" </tests/side_by_side >/home/tester/sought 2>&1
exec 9>&-
wait $holder
# met NAME ERRNO IN-ITS-OWN: what the box that seeks met, and what the one that holds met of its own.
met() {
	claim "of a box beside it nothing is found without root: $1" grep -qx "$1 $2" /home/tester/sought
	claim "and the one that holds it finds it: $1" grep -qx "$1 ${3:-0}" /home/tester/own
}
beside /home/tester/own /home/tester/sought
for name in file-in-worktree file-in-scratch file-in-shared-memory pipe named-socket posix-memory abstract-socket-listed \
	tcp-port-listed system-v-memory system-v-memory-listed system-v-queue system-v-semaphores process-by-name process-folder; do
	met $name 2
done
for name in abstract-socket tcp-port udp-port; do met $name 111; done
for name in process-signal process-descriptor process-group process-processors; do met $name 3; done
# What no box has. (Both have one uid, so that "processes of its user" are the seeker's own.)
met lock 2 2
met keyring-of-its-user 1 1
met posix-queue-made 24 24
claim 'and what it holds stands as it was, without root' sh -c 'tail -n 1 /home/tester/own | grep -qx untouched'

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

# Images: unpacked beneath a folder of the user's own, asked of a registry through the gateway. The home lies in memory
# that may be promised: 1 GiB stays free beside an image.
home=/tmp/images
busybox=/tests/busybox
mkdir -m 0711 $home && mkdir $home/profiles

hex() { sha256sum "$1" | cut -d ' ' -f 1; }

# blob FILE: a part of the layout, by its digest; says what describes it.
blob() {
	cp "$1" "$blobs/$(hex "$1")"
	printf '{"digest":"sha256:%s","size":%s}' "$(hex "$1")" "$(wc -c <"$1")"
}

# layout MARK COMMAND...: an image of busybox with a mark in it, its layer packed by the command, as a layout in $work/MARK.
work=/tmp/work
layout() {
	mark=$1
	shift
	blobs=$work/$mark/blobs/sha256
	mkdir -p $blobs $work/tree-$mark/usr/bin $work/tree-$mark/etc
	cp $busybox $work/tree-$mark/usr/bin/busybox
	for tool in sh cat ls id chmod; do ln -s busybox $work/tree-$mark/usr/bin/$tool; done
	ln -s usr/bin $work/tree-$mark/bin
	printf %s "$mark" >$work/tree-$mark/etc/mark
	$busybox tar -C $work/tree-$mark -cf $work/layer .
	"$@" <$work/layer >$work/packed
	printf '{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' \
		"$(hex $work/layer)" >$work/config
	printf '{"schemaVersion":2,"config":%s,"layers":[%s]}' "$(blob $work/config)" "$(blob $work/packed)" >$work/manifest
	printf '{"schemaVersion":2,"manifests":[%s]}' "$(blob $work/manifest)" >$work/$mark/index.json
	printf '{"imageLayoutVersion":"1.0.0"}' >$work/$mark/oci-layout
	manifest=sha256:$(hex $work/manifest)
}

layout of-a-layout $busybox gzip
printf 'image = "%s/of-a-layout"\n' $work >$home/profiles/layout.toml
layout of-a-registry cat
# What a registry has, as files.
mkdir -p $work/www/v2/tools/manifests $work/www/v2/tools/blobs
for part in $blobs/*; do
	cp $part $work/www/v2/tools/manifests/sha256:${part##*/}
	cp $part $work/www/v2/tools/blobs/sha256:${part##*/}
done
$busybox httpd -f -p 127.0.0.1:5000 -h $work/www &
registry=$!
printf 'image = "127.0.0.1:5000/tools@%s"\n' "$manifest" >$home/profiles/registry.toml
printf 'image = "127.0.0.1:5000/tools@sha256:%064d"\n' 0 >$home/profiles/none.toml

volary --home $home up --port 0 --json >$work/up.out 2>$work/up.err </dev/null &
up=$!
beside $work/up.out $work/up.err "$home/log/*"
eventually 'the platform gets ready for images, without root' grep '"ready":true' $work/up.out

in_box() {
	profile=$1
	shift
	volary --home $home exec --profile $profile -- "$@"
}

says 'a box shows the image of a layout, without root' of-a-layout in_box layout cat /etc/mark
says 'a box shows the image of a registry, without root' of-a-registry in_box registry cat /etc/mark
says 'a digest that the registry has not is refused in its name, without root' 'it has no sha256:0000' in_box none true
kill $registry
in_box registry sh -c 'cat /etc/mark; ls /usr/include; : >/etc/mark' >$work/seen 2>&1
beside $work/seen $work/up.err "$home/log/*"
claim 'an image that is here is asked of nobody, without root' grep -q of-a-registry $work/seen
claim 'nothing of the host is beside the image, without root' grep -q '/usr/include: No such file' $work/seen
claim 'an image is read and not written, without root' grep -q 'Read-only file system' $work/seen
says 'the tree is the user'\''s own and kept once' 2 sh -c "ls -d $home/operator/images/[0-9a-f]*[0-9a-f] | wc -l"

names=$(/tests/attacks | grep -vx become-root)
in_box registry sh -c 'cat >/workspace/a && chmod +x /workspace/a && /workspace/a "$@"' sh "$(port $work/up.out)" $names </tests/attacks >$work/met 2>&1
beside $work/met $work/up.err "$home/log/*"
for name in $names; do
	met=$(grep "^$name " $work/met)
	case $met in
	*" refused") echo "ok refused in an image without root: $met" ;;
	*) failed "in an image without root the attack $name: $met" ;;
	esac
done

kill -TERM $up
wait $up
claim 'the platform of images ends on request, without root' test $? = 0
chmod -R u+w $work $home
rm -rf $work $home

# The whole of what a newcomer does, by a person without root.
volary demo --exit --json >/home/tester/demo 2>&1
demo=$?
beside
claim 'the demo does its task and every wall holds, without root' sh -c "test $demo = 0 || { tail -n 300 /home/tester/demo; exit 1; }"
