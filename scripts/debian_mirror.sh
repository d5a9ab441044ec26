#!/usr/bin/env bash
# Prints the address of the Debian mirror that this machine's apt uses. Fails if there is none, or no keyring.
set -euo pipefail
[ -e /usr/share/keyrings/debian-archive-keyring.gpg ]
apt-get indextargets --format '$(REPO_URI)' | grep -m 1 '/debian/$'
