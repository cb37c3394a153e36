#!/bin/sh
# The guest's only job: makes the machine look like a Debian at work, runs every script of /tests, counts,
# and switches off. `NAME.user.sh` runs as uid 1000 in a control group that was delegated to it; others as root.
export PATH=/opt/volary:/usr/bin:/usr/sbin HOME=/root LC_ALL=C.UTF-8
export GIT_AUTHOR_NAME=t GIT_AUTHOR_EMAIL=t@example.org GIT_COMMITTER_NAME=t GIT_COMMITTER_EMAIL=t@example.org
export GIT_TEMPLATE_DIR=
if [ -d /run/systemd/system ]; then
	# It made and mounted what else is here.
	mount -t tmpfs -o mode=1777,size=8G tmpfs /tmp
	mount -t tmpfs -o mode=0755 tmpfs /var/lib
else
	mkdir -p /dev/pts /dev/shm
	mount -t devpts devpts /dev/pts
	mount -t tmpfs -o mode=1777 tmpfs /dev/shm
	mount -t tmpfs -o mode=0755 tmpfs /run
	# Room is set aside before a box is made, and never used here: more than the machine's memory may be promised.
	mount -t tmpfs -o mode=1777,size=8G tmpfs /tmp
	mount -t tmpfs -o mode=0755 tmpfs /var/lib
	mount -t cgroup2 cgroup2 /sys/fs/cgroup
	mount -t securityfs securityfs /sys/kernel/security
	mount --make-rshared /
	mkdir -p /home/tester && chown 1000:1000 /home/tester
	mkdir -p /run/user/1000 && chown 1000:1000 /run/user/1000

	# What systemd does for `Delegate=yes`.
	group=/sys/fs/cgroup
	echo '+cpu +memory +pids' >$group/cgroup.subtree_control
	mkdir -p $group/delegated/leaf
	echo '+cpu +memory +pids' >$group/delegated/cgroup.subtree_control
	for file in . cgroup.procs cgroup.threads cgroup.subtree_control leaf leaf/cgroup.procs leaf/cgroup.threads \
		leaf/cgroup.subtree_control; do
		chown 1000:1000 "$group/delegated/$file"
	done
fi

# A beat every ten seconds tells that the machine runs, whatever a test does. Where no claim has come for four
# minutes, it tells once where every process stands.
: >/tmp/said
(
	quiet=0 before=
	while echo '~' && sleep 10; do
		now=$(wc -c </tmp/said)
		quiet=$((quiet + 1))
		[ "$now" = "$before" ] || quiet=0
		before=$now
		[ $quiet -eq 24 ] || continue
		for process in /proc/[0-9]*; do
			command=$(tr '\0' ' ' <$process/cmdline 2>/dev/null)
			[ -n "$command" ] || continue
			echo "| ${process#/proc/} $(grep State $process/status | cut -f 2) $command"
			sed 's/^/|     /' $process/stack
		done 2>/dev/null
	done
) >/dev/console 2>&1 &

for test in /tests/*.sh; do
	case $test in
	*.user.sh)
		sh -c "echo \$\$ >$group/delegated/leaf/cgroup.procs; exec setpriv --reuid 1000 --regid 1000 --clear-groups \
			env HOME=/home/tester XDG_RUNTIME_DIR=/run/user/1000 sh $test" </dev/null 2>&1
		;;
	*) sh "$test" </dev/null 2>&1 ;;
	esac
	status=$?
	[ $status -eq 0 ] || echo "fail ${test##*/} ended with $status"
done | tee /tmp/said

passed=$(grep -c '^ok ' /tmp/said)
failed=$(grep -c '^fail ' /tmp/said)
echo "$passed passed, $failed failed"
echo 1 >/proc/sys/kernel/sysrq
echo o >/proc/sysrq-trigger
sleep 60
