# Sourced by the scripts: one line for one claim.

# beside PATTERN...: files that the claims from here on are about, outputs that were kept and logs. The first of these
# claims that fails is told with their ends.
beside() {
	files=$* told=
}

# failed NAME: the line of a claim that failed, after what it is told with.
failed() {
	if [ -z "$told" ]; then
		told=yes
		# Patterns: a log may begin later than the claims.
		for file in $files; do
			[ -e "$file" ] || continue
			echo "| == $file"
			tail -n 40 "$file" | tr -c '\11\12\40-\176' '?' | cut -c -400 | sed 's/^/|    /'
		done
	fi
	echo "fail $1"
}

# claim NAME COMMAND...: the command ends with 0.
claim() {
	name=$1
	shift
	if said=$("$@" 2>&1); then
		echo "ok $name"
	else
		echo "$said" | sed 's/^/| /'
		failed "$name"
	fi
}

# refuse NAME COMMAND...: the command does not end with 0.
refuse() {
	name=$1
	shift
	if said=$("$@" 2>&1); then
		echo "$said" | sed 's/^/| /'
		failed "$name"
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
		failed "$name"
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
