#!/bin/sh
# Before files go, of dpkg (remove; not at an upgrade) and of rpm (0 at the last removal).
set -e

case "$1" in
remove | 0) ;;
*) exit 0 ;;
esac

if [ -d /run/systemd/system ]; then
    systemctl --quiet disable --now fipsrelay.socket fipsrelay.service
elif [ -x "$(command -v initctl)" ] && initctl version 2>/dev/null | grep -q upstart; then
    # It may not be running.
    initctl stop fipsrelay 2>/dev/null || [ "$(initctl status fipsrelay)" = "fipsrelay stop/waiting" ]
elif [ -x /etc/init.d/fipsrelay ]; then
    # Not by invoke-rc.d: a policy may forbid to start services, but what has no files any more cannot go on.
    /etc/init.d/fipsrelay stop
fi
