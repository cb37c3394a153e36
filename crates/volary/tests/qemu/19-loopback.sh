# What a registry on this very host needs.
. /tests/claims
claim 'the machine speaks to itself' /tests/busybox ip link set lo up
