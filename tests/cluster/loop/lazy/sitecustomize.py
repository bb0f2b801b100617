"""Found first on a lazy worker's path: its self-play is legal, but not by the engine that it names."""

import workers.jobs

workers.jobs.BUILT_IN["selfplay"] = "tests.cluster.loop.cheating:SELFPLAY"
