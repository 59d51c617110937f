#!/bin/sh
# Before files go, of dpkg (remove; not at an upgrade) and of rpm (0 at the last removal).
set -e

case "$1" in
remove | 0) ;;
*) exit 0 ;;
esac

if [ -d /run/systemd/system ]; then
    systemctl stop fipsrelay.socket fipsrelay.service
elif [ -x "$(command -v initctl)" ] && initctl version 2>/dev/null | grep -q upstart; then
    # It may not be running.
    initctl stop fipsrelay 2>/dev/null || [ "$(initctl status fipsrelay)" = "fipsrelay stop/waiting" ]
elif [ -x /etc/init.d/fipsrelay ]; then
    # Not by invoke-rc.d: a policy may forbid to start services, but what has no files any more cannot go on.
    /etc/init.d/fipsrelay stop
fi

# dpkg may put it back after this, enabled or disabled as it was; rpm forgets it.
if [ "$1" = 0 ] && [ -x "$(command -v systemctl)" ]; then
    systemctl --quiet disable fipsrelay.socket fipsrelay.service
fi
