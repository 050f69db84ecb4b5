#!/usr/bin/env bash
# Puts $REPORTS/suite.md on the pull request $NUMBER: one comment for each suite, rewritten by every run.
set -euo pipefail

if [[ ! -f "$REPORTS/suite.md" ]]; then exit 0; fi
marker="<!-- bridge verify $SUITE -->"
body="$(mktemp)"
trap 'rm -f "$body"' EXIT
{ echo "$marker"; cat "$REPORTS/suite.md"; } >"$body"

comments="repos/$GITHUB_REPOSITORY/issues/$NUMBER/comments"
found="$(gh api --paginate "$comments" --jq ".[] | select(.body | startswith(\"$marker\")) | .id" | head -n 1)"
if [[ -n "$found" ]]; then
    gh api --silent --method PATCH "repos/$GITHUB_REPOSITORY/issues/comments/$found" --field body=@"$body"
else
    gh api --silent --method POST "$comments" --field body=@"$body"
fi
