# `make help`: every "target: …  ## text", under its "##@ group", and every
# "override takes.NAME := targets  ## text"; 80 columns.
BEGIN { print "usage: make TARGET [VARIABLE=value ...], or VARIABLE=value make TARGET" }

# Prints words from column `indent` on, after `head`.
function wrapped(head, text, indent,    words, count, i, line, rest) {
    count = split(text, words, " ")
    line = head
    rest = sprintf("%" indent "s", "")
    for (i = 1; i <= count; i++) {
        if (length(line) + 1 + length(words[i]) > 80 && line != rest) {
            print line
            line = rest
        }
        line = line (line == rest || line == head ? "" : " ") words[i]
    }
    print line
}

# A list of targets with the groups in it written out.
function expanded(list,    name) {
    for (name in groups) {
        while (i = index(list, "$(" name ")")) {
            list = substr(list, 1, i - 1) groups[name] substr(list, i + length(name) + 3)
        }
    }
    return list
}

/^override (planning|configured) := / { groups[$2] = expanded(substr($0, index($0, "=") + 2)) }
/^##@/ { print ""; wrapped("", expanded(substr($0, 5)), 0); next }
/^override takes\.[A-Z_%]+ := .*##/ {
    text = $0; sub(/.*## */, "", text)
    list = $0; sub(/^[^=]*= */, "", list); sub(/[ \t]*##.*/, "", list)
    also = sub(/^\$\(planning\) ?/, "", list) ? "also " : ""
    if (list != "" && list != "%" && list != "$(configured)") text = text " (" also list ")"
    wrapped(sprintf("  %-15s ", substr($2, 7)), text, 18)
    next
}
/^[a-z][a-zA-Z-]*[^:]*:.*##/ {
    text = $0; sub(/.*## */, "", text)
    name = $0; sub(/:.*/, "", name)
    wrapped(sprintf("  %-15s ", name), text, 18)
}
