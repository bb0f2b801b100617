"""Found first on a cheating worker's path: its matches play nothing and invent who won."""

import workers.jobs

workers.jobs.BUILT_IN["tournament"] = "tests.cluster.loop.cheating:TOURNAMENT"
workers.jobs.BUILT_IN["gauntlet"] = "tests.cluster.loop.cheating:GAUNTLET"
