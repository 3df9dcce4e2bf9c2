# `make help`: every "target: …  ## text", under its "##@ group".
BEGIN { print "usage: make TARGET [VARIABLE=value ...]" }
/^##@/ { print "\n" substr($0, 5); next }
/^[a-z][a-zA-Z-]*[^:]*:.*##/ {
    text = $0; sub(/.*## */, "", text)
    name = $0; sub(/:.*/, "", name)
    printf "  %-24s %s\n", name, text
}
