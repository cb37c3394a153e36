# Sourced by the scripts: one line for one claim.

# claim NAME COMMAND...: the command ends with 0.
claim() {
	name=$1
	shift
	if said=$("$@" 2>&1); then
		echo "ok $name"
	else
		echo "$said" | sed 's/^/| /'
		echo "fail $name"
	fi
}

# refuse NAME COMMAND...: the command does not end with 0.
refuse() {
	name=$1
	shift
	if said=$("$@" 2>&1); then
		echo "$said" | sed 's/^/| /'
		echo "fail $name"
	else
		echo "ok $name"
	fi
}

# says NAME TEXT COMMAND...: the command's output holds the text, whatever it ends with.
says() {
	name=$1 text=$2
	shift 2
	said=$("$@" 2>&1)
	case $said in
	*"$text"*) echo "ok $name" ;;
	*)
		echo "$said" | sed 's/^/| /'
		echo "fail $name"
		;;
	esac
}

# await COMMAND...: returns once the command ends with 0, which may take ten minutes on a busy machine; it is asked
# once a second. What it waited for is claimed afterwards.
await() {
	tries=0
	until "$@" >/dev/null 2>&1 || [ $tries -ge 600 ]; do
		sleep 1
		tries=$((tries + 1))
	done
}

# eventually NAME COMMAND...: the claim of a condition that may need a while to come true.
eventually() {
	eventual=$1
	shift
	await "$@"
	claim "$eventual" "$@"
}
