"""The voter's HTTP face: API, status, metrics, events, dashboard, play."""
