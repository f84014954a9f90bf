#!/bin/sh
# sh START FILE VERSION: a node pool on the first Python of this machine that the runtime serves. START is
# this file beside the runtime's __main__.py; or it is a zip with these lines before it.
case $0 in
    */start) runtime=${0%/*} ;;
    *) runtime=$0 ;;
esac
looked=
for name in python3 python3.14 python3.13 python3.12 python3.11 python3.10 python3.9 \
    /usr/bin/python3 /usr/libexec/platform-python; do
    python=$(command -v "$name") && [ -x "$python" ] || continue
    case $looked in *"
  $python "*) continue ;; esac
    if said=$("$python" -I -S "$runtime" --serves 2>&1); then
        exec "$python" -I "$runtime" "$@"
    fi
    looked="$looked
  $python ${said:-could not be run}"
done
if command -v mep-pool >/dev/null 2>&1; then
    exec mep-pool "$@"
fi
cat >&2 <<END
No node pool can run on $(uname -n): the runtime $runtime serves none of its Pythons, and there is no mep-pool.
PATH is $PATH; python3, python3.9 to python3.14, /usr/bin/python3 and /usr/libexec/platform-python were looked for:${looked:-
  there are none}
Let worker_init put a python3 on PATH that is served, or install hpc-mep[endpoint] on the node or in the image.
END
exit 72
