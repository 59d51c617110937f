#!/bin/sh
# Installs a fipsrelay package and gets it going, in one step. Every step may be repeated.

set -eu

usage() {
    cat <<'END'
Usage: install.sh [--dry-run] PACKAGE

Installs PACKAGE, a .deb or an .rpm of fipsrelay, then puts a FIPS module in its place, starts the service and has
`fipsrelay doctor` look at it. Run it again after something has failed: what is done is not done again.

  --dry-run   say what would be done, and do nothing
  --help      print this

Environment:
  FIPSRELAY_MODULE=FILE   install this fips.so; without it `fipsrelay module` finds or obtains one
  FIPSRELAY_AGENT=1       at the end switch the Agent's datadog.yaml to the relay
  FIPSRELAY_AGENT_CONFIG  where that is, if not /etc/datadog-agent/datadog.yaml
  OS_RELEASE=FILE         what says which platform this is, if not /etc/os-release

Exit statuses: 0 done, 1 a step failed, 2 wrong arguments, 3 not a platform that is supported.
END
}

CONFIG=/etc/fipsrelay/proxy.yaml
OLDEST_GLIBC=2.17

fail() {
    status=$1
    shift
    printf 'install.sh: %s\n' "$*" >&2
    exit "$status"
}

say() { printf '%s\n' "== $*"; }

# Do it, or say that it would be done.
run() {
    if [ -n "$dry_run" ]; then
        echo "would run: $*"
    else
        "$@"
    fi
}

has() { command -v "$1" >/dev/null 2>&1; }

# Whether version $1 is at least $2, each of two numbers.
at_least() {
    [ "${1%%.*}" -gt "${2%%.*}" ] && return 0
    minor=${1#*.}
    minor=${minor%%.*}
    [ "${1%%.*}" -eq "${2%%.*}" ] && [ "$minor" -ge "${2#*.}" ]
}

# The kind of packages that this platform has, into $kind: deb or rpm.
platform() {
    [ "$(uname -s)" = Linux ] || fail 3 "$(uname -s) is not supported: the relay runs on Linux"
    file=${OS_RELEASE:-/etc/os-release}
    [ -r "$file" ] || fail 3 "there is no $file: Debian 8, Ubuntu 14.04, RHEL 7, SLES 12, Amazon Linux 2 and newer have one"
    # shellcheck disable=SC1090
    name=$(. "$file" && echo "${PRETTY_NAME:-${ID:-unknown}}")
    # Of a derivative, what it is like.
    # shellcheck disable=SC1090
    ids=$(. "$file" && echo "${ID:-} ${ID_LIKE:-}")
    kind=
    for id in $ids; do
        case $id in
        debian | ubuntu) kind=deb ;;
        rhel | centos | fedora | rocky | almalinux | ol | amzn | sles | sles_sap | suse | opensuse*) kind=rpm ;;
        *) continue ;;
        esac
        break
    done
    [ -n "$kind" ] || fail 3 "$name is not supported: Debian, Ubuntu, RHEL and its kin, SUSE and Amazon Linux are"
    glibc=$(getconf GNU_LIBC_VERSION 2>/dev/null) || fail 3 "$name has no glibc, which the relay needs (a container image does not)"
    glibc=${glibc#glibc }
    at_least "$glibc" "$OLDEST_GLIBC" || fail 3 "$name has glibc $glibc; $OLDEST_GLIBC or newer is needed"
    machine=$(uname -m)
    say "$name, glibc $glibc, $machine"
}

# That the package is one for this platform and machine.
fits() {
    case $package in
    *.deb | *.rpm) ;;
    *) fail 2 "$package is neither a .deb nor an .rpm" ;;
    esac
    [ -f "$package" ] || fail 2 "there is no file $package"
    [ "${package##*.}" = "$kind" ] || fail 3 "$name takes a .$kind, and $package is none"
    case $kind in
    deb)
        has dpkg || fail 3 "$name has no dpkg"
        wanted=$(dpkg-deb --field "$package" Architecture) || fail 1 "$package cannot be read"
        found=$(dpkg --print-architecture)
        ;;
    rpm)
        has rpm || fail 3 "$name has no rpm"
        wanted=$(rpm -qp --queryformat '%{ARCH}' "$package" 2>/dev/null) || fail 1 "$package cannot be read"
        found=$machine
        ;;
    esac
    [ "$wanted" = all ] || [ "$wanted" = noarch ] || [ "$wanted" = "$found" ] ||
        fail 3 "$package is for $wanted, and this machine is $found"
}

# Absolute, for apt and zypper take other words for names.
absolute() {
    case $1 in
    /*) echo "$1" ;;
    *) echo "$PWD/$1" ;;
    esac
}

is_installed() {
    case $kind in
    deb)
        here=$(dpkg-query -W -f '${Status} ${Version}' fipsrelay 2>/dev/null) || return 1
        [ "$here" = "install ok installed $(dpkg-deb --field "$package" Version)" ]
        ;;
    rpm) rpm -q --quiet "$(rpm -qp "$package" 2>/dev/null)" ;;
    esac
}

install_package() {
    if is_installed; then
        say "$package is installed already"
        return 0
    fi
    say "installing $package"
    if [ "$kind" = deb ]; then
        # What it depends on, apt brings; apt before 1.1 (Debian 8, Ubuntu 14.04) knows no files.
        if ! run dpkg --install "$package"; then
            run apt-get --yes --fix-broken install
            is_installed
        fi
    elif has zypper; then
        run zypper --non-interactive install --allow-unsigned-rpm "$package"
    elif has dnf; then
        run dnf --assumeyes install "$package"
    elif has yum; then
        run yum --assumeyes install "$package"
    else
        run rpm --upgrade "$package"
    fi
}

put_module() {
    if [ -n "${FIPSRELAY_MODULE:-}" ]; then
        say "FIPS module: $FIPSRELAY_MODULE"
        run fipsrelay module --install "$FIPSRELAY_MODULE" || return 1
    else
        say "FIPS module"
        run fipsrelay module || return 1
    fi
    # As the service will: it refuses, too, what the configuration does not allow.
    run fipsrelay module --prove -c "$CONFIG" >&2
}

# One that runs already goes on: package and configuration have their own ways to have it begin again.
start() {
    say "service"
    if [ -d /run/systemd/system ]; then
        run systemctl enable fipsrelay.service && run systemctl start fipsrelay.service
    elif initctl version 2>/dev/null | grep -q upstart; then
        initctl status fipsrelay 2>/dev/null | grep -q running || run initctl start fipsrelay
    else
        run service fipsrelay start
    fi
}

dry_run=
package=
for word in "$@"; do
    case $word in
    --dry-run) dry_run=1 ;;
    --help | -h)
        usage
        exit 0
        ;;
    -*) fail 2 "what is $word? See install.sh --help" ;;
    *)
        [ -z "$package" ] || fail 2 "one package, not two: $package, $word"
        package=$word
        ;;
    esac
done
[ -n "$package" ] || {
    usage >&2
    exit 2
}
[ -n "$dry_run" ] || [ "$(id -u)" = 0 ] || fail 1 "only root may install; --dry-run shows what would be done"

platform
package=$(absolute "$package")
fits
install_package || fail 1 "$package could not be installed: see above"
put_module || fail 1 "no FIPS module that $CONFIG allows: see above; FIPSRELAY_MODULE=FILE names one of yours"
start || fail 1 "the relay did not start: see above, and 'fipsrelay doctor -c $CONFIG'"
say "doctor"
# Without the Agent: it is not to use the relay before all this is well.
run fipsrelay doctor --no-agent -c "$CONFIG" || fail 1 "not everything is as it should be: see the lines with FAIL"
if [ "${FIPSRELAY_AGENT:-}" = 1 ]; then
    agent=${FIPSRELAY_AGENT_CONFIG:-/etc/datadog-agent/datadog.yaml}
    say "Agent: $agent"
    run fipsrelay agent enable "$agent" || fail 1 "the Agent is as it was: see above"
else
    say "the Agent is as it was: 'fipsrelay agent enable FILE' points it at the relay"
fi
say "done"
