#!/bin/sh
# After files are in place, of dpkg (configure VERSION) and of rpm (1 at the first installation, 2 at an upgrade).
set -e

STATE=/var/lib/fipsrelay
CONFIG=/etc/fipsrelay/proxy.yaml
UNIT=/etc/systemd/system/fipsrelay.service.d/user.conf

case "$1" in
configure | 1 | 2) ;;
*) exit 0 ;;
esac

# The Agent's own user where it is known, so that both may read what the other has. Once chosen, it stays, unless it has
# gone with the Agent.
user=$(stat -c %U "$STATE" 2>/dev/null || echo root)
before=$user
if [ "$before" != root ] && [ "$before" != UNKNOWN ]; then
    :
elif getent passwd dd-agent >/dev/null; then
    user=dd-agent
else
    user=fipsrelay
    getent group fipsrelay >/dev/null || groupadd --system fipsrelay
    getent passwd fipsrelay >/dev/null ||
        useradd --system --gid fipsrelay --home-dir "$STATE" --no-create-home --shell /usr/sbin/nologin fipsrelay
fi
group=$(id -gn "$user")
install -d -m 0750 -o "$user" -g "$group" "$STATE"
if [ "$before" = UNKNOWN ]; then
    rm -f "$UNIT"
    [ ! -d /var/log/fipsrelay ] || chown -hR "$user:$group" /var/log/fipsrelay
fi
if [ "$user" != fipsrelay ]; then
    install -d -m 0755 "${UNIT%/*}"
    printf '[Service]\nUser=%s\nGroup=%s\n' "$user" "$group" >"$UNIT"
fi

if [ ! -e "$CONFIG" ]; then
    install -m 0640 -o root -g "$group" "$CONFIG.example" "$CONFIG"
elif [ "$(stat -c %G "$CONFIG")" = UNKNOWN ]; then
    chgrp "$group" "$CONFIG"
fi

# At the first installation only: what an operator has disabled since then stays so.
case "$1$2" in
configure | 1) [ ! -x "$(command -v systemctl)" ] || systemctl enable --quiet fipsrelay.service ;;
esac
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload
elif [ -x "$(command -v update-rc.d)" ]; then
    update-rc.d fipsrelay defaults >/dev/null
fi

# A configuration of before is either good or says what to change; then the relay that runs is left alone.
if ! /opt/fipsrelay/bin/fipsrelay check -c "$CONFIG" >/dev/null; then
    echo "fipsrelay: $CONFIG must be changed before it can start" >&2
    exit 0
fi

# There may be no module yet, or one that is no longer allowed: nothing is downloaded here, and the relay would not start.
if ! /opt/fipsrelay/bin/fipsrelay module --prove -c "$CONFIG" >/dev/null; then
    echo "fipsrelay: no FIPS module that $CONFIG allows. Run 'fipsrelay module', or name one there; then start the service."
    exit 0
fi
# One that is disabled and does not run is so on purpose.
if [ -d /run/systemd/system ]; then
    ! systemctl --quiet is-enabled fipsrelay.service && ! systemctl --quiet is-active fipsrelay.service ||
        systemctl restart fipsrelay.service
elif [ -x "$(command -v initctl)" ] && initctl version 2>/dev/null | grep -q upstart; then
    initctl restart fipsrelay 2>/dev/null || grep -qs '^manual' /etc/init/fipsrelay.override ||
        initctl start fipsrelay
elif [ -x "$(command -v invoke-rc.d)" ]; then
    invoke-rc.d fipsrelay restart
fi || echo "fipsrelay: it did not start; 'fipsrelay doctor -c $CONFIG' says why" >&2
