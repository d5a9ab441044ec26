#!/usr/bin/env bash
# Copies the checkout to a new folder, without what .gitignore names.
set -euo pipefail
rm -rf "$1"
mkdir -p "$1"
git ls-files -z --cached --others --exclude-standard --deduplicate |
    tar --create --null --files-from=- --ignore-failed-read | tar --extract --directory "$1"
