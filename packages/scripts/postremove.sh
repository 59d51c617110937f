#!/bin/sh
# After files have gone, of dpkg (remove, purge) and of rpm (0 at the last removal, which keeps what purge does not).
set -e

case "$1" in
remove | purge | 0) ;;
*) exit 0 ;;
esac

if [ -d /run/systemd/system ]; then
    systemctl daemon-reload
fi

if [ "$1" = purge ]; then
    rm -f /etc/systemd/system/fipsrelay.service.d/user.conf
    rmdir /etc/systemd/system/fipsrelay.service.d 2>/dev/null || [ ! -d /etc/systemd/system/fipsrelay.service.d ]
    rm -rf /etc/fipsrelay /var/lib/fipsrelay /var/log/fipsrelay /run/fipsrelay /opt/fipsrelay
    if [ -x "$(command -v update-rc.d)" ]; then
        update-rc.d fipsrelay remove >/dev/null
    fi
    if getent passwd fipsrelay >/dev/null; then
        userdel fipsrelay
    fi
fi
