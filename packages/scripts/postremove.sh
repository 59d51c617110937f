#!/bin/sh
# After files have gone, of dpkg (remove, purge) and of rpm (0 at the last removal, which keeps what purge does not).
set -e

case "$1" in
remove | purge | 0) ;;
*) exit 0 ;;
esac

if [ "$1" = purge ]; then
    rm -f /etc/systemd/system/fipsrelay.service.d/user.conf
    rm -f /etc/systemd/system/*.wants/fipsrelay.service /etc/systemd/system/*.wants/fipsrelay.socket
    if [ -d /etc/systemd/system/fipsrelay.service.d ]; then
        rmdir --ignore-fail-on-non-empty /etc/systemd/system/fipsrelay.service.d # an operator's own drop-ins stay
    fi
    rm -rf /etc/fipsrelay /var/lib/fipsrelay /var/log/fipsrelay /run/fipsrelay /opt/fipsrelay
    if [ -x "$(command -v update-rc.d)" ]; then
        update-rc.d fipsrelay remove >/dev/null
    fi
    if getent passwd fipsrelay >/dev/null; then
        userdel fipsrelay
    fi
fi

if [ -d /run/systemd/system ]; then
    systemctl daemon-reload
fi
