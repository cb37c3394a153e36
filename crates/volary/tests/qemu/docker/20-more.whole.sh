# The attacks of the other guest, in a box of Docker's under systemd; then an engine that keeps control groups itself, on
# cgroup v2.
. /tests/claims
. /tests/shared
home=/var/lib/volary-w
begin_home
up 'for attacks'
port=$(sed -n 's|.*http://127.0.0.1:\([0-9]*\).*|\1|p' /run/up.out | head -n 1)
in_box sh -c 'cat >/workspace/a && chmod +x /workspace/a && /workspace/a "$@"' sh "$port" $(/tests/attacks) \
	</tests/attacks >/run/attacks 2>&1
for name in $(/tests/attacks); do
	claim "refused in a box of Docker's: $(grep "^$name " /run/attacks || echo $name)" grep -q "^$name refused\$" /run/attacks
done

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
