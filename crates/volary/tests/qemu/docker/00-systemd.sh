# What the other scripts rely on: systemd is the first process and keeps every control group, by cgroup v2.
. /tests/claims
. /tests/shared
echo "| kernel $(uname -r), $(systemctl --version | head -n 1), $(dockerd --version)"
claim 'systemd is the first process' grep -qx systemd /proc/1/comm
claim 'cgroup v2 is the only hierarchy here too' sh -c '! grep -q " cgroup " /proc/mounts && grep -q cgroup2 /proc/mounts'
claim "Docker's engine starts" systemctl start docker
eventually "Docker's engine answers" engine info
says 'it leaves control groups to systemd, without being told to' '"CgroupDriver":"systemd"' engine info
