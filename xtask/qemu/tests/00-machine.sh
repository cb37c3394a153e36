# What the other scripts rely on: the kernel, its Landlock level, cgroup v2, the modules.
. /tests/claims
echo "| kernel $(uname -r), Landlock ABI $(/tests/landlock-abi)"
claim 'the kernel is Debian'\''s own' grep -q Debian /proc/version
claim "Landlock has a level we support: $(/tests/landlock-abi), 2 or later" test "$(/tests/landlock-abi)" -ge 2
claim 'cgroup v2 is the only hierarchy' sh -c '! grep -q " cgroup " /proc/mounts && grep -q cgroup2 /proc/mounts'
claim 'memory, processor and process limits are there' sh -c \
	'for c in cpu memory pids; do grep -qw $c /sys/fs/cgroup/cgroup.controllers || exit 1; done'
claim 'overlay, loop and ext4 are there' sh -c 'grep -q overlay /proc/filesystems && grep -q ext4 /proc/filesystems && test -e /dev/loop-control'
mkdir /run/new
claim 'a container can pivot away from this root' unshare -m sh -c \
	'mount -t tmpfs new /run/new && mkdir /run/new/old && cd /run/new && pivot_root . old'
