"""Telemetry: what was committed, as OpenTelemetry spans and as metrics. Loaded only where it is wanted."""
