# Without root: what `rootless` stands on.
. /tests/claims
claim 'this is uid 1000' test "$(id -u)" = 1000
claim 'a group can be made in the delegated one' mkdir /sys/fs/cgroup/delegated/mine
claim 'a limit can be set there' sh -c 'echo 10 >/sys/fs/cgroup/delegated/mine/pids.max'
claim 'a process can be moved there' sh -c 'sleep 600 & echo $! >/sys/fs/cgroup/delegated/mine/cgroup.procs && kill $!'
refuse 'no group can be made elsewhere' mkdir /sys/fs/cgroup/mine
claim 'a user namespace can be made' unshare --user --map-root-user --net true
