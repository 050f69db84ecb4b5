#!/usr/bin/env bash
# Verifies the suite $SUITE and writes its reports to $REPORTS. The exit code goes to the step's outputs instead
# of ending the job, so that the reports are published whatever it is.
set -euo pipefail

mkdir -p "$REPORTS"
arguments=(--suite "$SUITE" --state "$STATE")
if [[ -n "${BASELINE:-}" ]]; then arguments+=(--baseline "$BASELINE"); fi
if [[ -n "${JOBS:-}" ]]; then arguments+=(--jobs "$JOBS"); fi
if [[ "${RESUME:-}" == true ]]; then arguments+=(--resume); fi
read -r -a names <<<"${ONLY:-}"
for name in "${names[@]}"; do arguments+=(--only "$name"); done

code=0
bridge verify "${arguments[@]}" \
    --report "$REPORTS/suite.json" \
    --html "$REPORTS/suite.html" \
    --markdown "$REPORTS/suite.md" \
    --junit "$REPORTS/junit.xml" \
    --sarif "$REPORTS/suite.sarif" \
    --annotations github || code=$?

if [[ -f "$REPORTS/suite.md" ]]; then cat "$REPORTS/suite.md" >>"$GITHUB_STEP_SUMMARY"; fi
echo "exit-code=$code" >>"$GITHUB_OUTPUT"
