# An engine that keeps control groups itself, on cgroup v2.
. /tests/claims
. /tests/shared
home=/var/lib/volary-w
begin_home
up 'before the engine is started anew'
mkdir /run/systemd/system/docker.service.d
printf '[Service]\nEnvironment=DRIVER=--exec-opt=native.cgroupdriver=cgroupfs\n' >/run/systemd/system/docker.service.d/driver.conf
systemctl daemon-reload
claim "Docker's engine is started anew" systemctl restart docker
keeps_groups() { engine info | grep -q '"CgroupDriver":"cgroupfs"'; }
eventually 'it keeps control groups itself now' keeps_groups
at_work 'by cgroupfs' '/volary-[a-z2-7]*/[a-z2-7]*/[0-9a-f]*'
says 'what takes too much memory is ended, and the limit has a name, by cgroupfs' 'killed: memory limit 64 MiB' \
	in_box sh -c 'head -c 200000000 /dev/zero | tail >/workspace/held'
down 'by cgroupfs'
