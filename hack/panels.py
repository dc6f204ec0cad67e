"""The panels of the Grafana dashboard, row by row."""

from __future__ import annotations

from panel import (
    BRANCH,
    BY_BRANCH,
    BY_PIPELINE,
    Kind,
    Panel,
    Query,
    Row,
    Unit,
    metric,
    own_quantile,
    own_rate,
    p50_p99,
    rate,
)

ROWS = (
    Row(
        "Overview",
        (
            Panel(
                "Backlog",
                "Events not settled yet by every branch that gets them: not delivered, in a worker's hands, or waiting"
                " for a retry. Near zero is healthy; growing means workers do not keep up.",
                Unit.EVENTS,
                (Query(f"sum({metric('headgate_branch_backlog_events')})", "backlog"),),
                Kind.NUMBER,
                width=4,
                height=4,
            ),
            Panel(
                "Oldest event",
                "Age of the oldest event that some branch has not settled. This, not the backlog, is what users wait.",
                Unit.SECONDS,
                (Query(f"max({metric('headgate_branch_age_seconds')})", "age"),),
                Kind.NUMBER,
                width=4,
                height=4,
            ),
            Panel(
                "Published",
                "Events published a second.",
                Unit.EVENTS_PER_SECOND,
                (Query(f"sum({rate('headgate_pipeline_published_total')})", "published"),),
                Kind.NUMBER,
                width=4,
                height=4,
            ),
            Panel(
                "Settled",
                "Deliveries a second that reached an end, done or dead-lettered, summed over branches: with three"
                " branches three times what is published.",
                Unit.EVENTS_PER_SECOND,
                (Query(f"sum({rate('headgate_branch_settled_total')})", "settled"),),
                Kind.NUMBER,
                width=4,
                height=4,
            ),
            Panel(
                "Workers ready",
                "Workers ready, over all branches.",
                Unit.PROCESSES,
                (Query(f"sum({metric('headgate_branch_replicas_ready')})", "ready"),),
                Kind.NUMBER,
                width=4,
                height=4,
            ),
            Panel(
                "Dead letters",
                "Events that used up their attempts or failed for good, and wait for somebody to look at them."
                " Should be zero.",
                Unit.EVENTS,
                (Query(f"sum({metric('headgate_branch_dead_letters')})", "dead letters"),),
                Kind.NUMBER,
                width=4,
                height=4,
            ),
        ),
    ),
    Row(
        "Lag and throughput",
        (
            Panel(
                "Backlog a branch",
                "Undelivered, pending and delayed events of each branch. A gap: it could not be measured.",
                Unit.EVENTS,
                (Query(f"sum {BY_BRANCH} ({metric('headgate_branch_backlog_events')})", BRANCH),),
            ),
            Panel(
                "In and out",
                "Events a second that arrive at and that leave each branch, as the pilot reckons with them.",
                Unit.EVENTS_PER_SECOND,
                (
                    Query(
                        f"sum {BY_BRANCH} ({metric('headgate_branch_arrival_events_per_second')})",
                        f"in {BRANCH}",
                    ),
                    Query(
                        f"sum {BY_BRANCH} ({metric('headgate_branch_settle_events_per_second')})",
                        f"out {BRANCH}",
                    ),
                ),
            ),
            Panel(
                "Trend of the backlog",
                "Events a second by which each backlog grows; below zero it is being worked off.",
                Unit.EVENTS_PER_SECOND,
                (
                    Query(
                        f"sum {BY_BRANCH} ({metric('headgate_branch_backlog_trend_events_per_second')})",
                        BRANCH,
                    ),
                ),
                least=None,
            ),
            Panel(
                "Lag a branch",
                "Events no worker of the branch has been given yet.",
                Unit.EVENTS,
                (Query(f"sum {BY_BRANCH} ({metric('headgate_branch_lag_events')})", BRANCH),),
            ),
            Panel(
                "Age of the oldest event",
                "Seconds since the oldest unsettled event of each branch was published, and the most that its"
                " scale.maxAgeSeconds allows.",
                Unit.SECONDS,
                (
                    Query(f"max {BY_BRANCH} ({metric('headgate_branch_age_seconds')})", BRANCH),
                    Query(
                        f"max {BY_BRANCH} ({metric('headgate_branch_max_age_seconds')})", f"{BRANCH} at most"
                    ),
                ),
            ),
            Panel(
                "Settled a branch",
                "Events a second each branch settled, by outcome: done, dead (dead-lettered), or filtered (the"
                " branch's filter left them out).",
                Unit.EVENTS_PER_SECOND,
                (
                    Query(
                        f"sum by (namespace, pipeline, branch, outcome) ({rate('headgate_branch_settled_total')})",
                        BRANCH + " {{outcome}}",
                    ),
                ),
            ),
            Panel(
                "Pending and delayed",
                "Pending: in a worker's hands. Delayed: failed, and waiting for the next attempt.",
                Unit.EVENTS,
                (
                    Query(
                        f"sum {BY_BRANCH} ({metric('headgate_branch_pending_events')})", f"pending {BRANCH}"
                    ),
                    Query(
                        f"sum {BY_BRANCH} ({metric('headgate_branch_delayed_events')})", f"delayed {BRANCH}"
                    ),
                ),
            ),
            Panel(
                "Retries",
                "Attempts a second that failed and will be repeated after their delay.",
                Unit.EVENTS_PER_SECOND,
                (Query(f"sum {BY_BRANCH} ({rate('headgate_branch_retried_total')})", BRANCH),),
            ),
        ),
    ),
    Row(
        "Replicas",
        (
            Panel(
                "Replicas desired and ready",
                "What the pilot asked for, and what is ready to work. A lasting difference: look at the pods.",
                Unit.PROCESSES,
                (
                    Query(
                        f"sum {BY_BRANCH} ({metric('headgate_branch_replicas_desired')})", f"desired {BRANCH}"
                    ),
                    Query(f"sum {BY_BRANCH} ({metric('headgate_branch_replicas_ready')})", f"ready {BRANCH}"),
                ),
            ),
            Panel(
                "In flight",
                "Events in handlers now, summed over a branch's workers. Near concurrency times replicas means busy.",
                Unit.EVENTS,
                (Query(f"sum {BY_BRANCH} ({metric('headgate_worker_in_flight_events')})", BRANCH),),
            ),
            Panel(
                "Attempts by outcome",
                "What workers report a second: done, retried, dead, filtered out, parked behind a key, or fenced"
                " (another worker had taken over).",
                Unit.EVENTS_PER_SECOND,
                (
                    Query(
                        f"sum by (namespace, pipeline, branch, outcome) ({rate('headgate_worker_events_total')})",
                        BRANCH + " {{outcome}}",
                    ),
                ),
            ),
        ),
    ),
    Row(
        "Gates",
        (
            Panel(
                "Gate a branch",
                "Open: every lane flows. Delayed: lanes the crossed level names wait, up to maxDelaySeconds. Closed:"
                " the target is gone for good, and everything waits until somebody opens the branch.",
                Unit.EVENTS,
                (Query(f"max {BY_BRANCH} ({metric('headgate_branch_gate')})", BRANCH),),
                Kind.STATES,
                width=16,
                states={0: "open", 1: "delayed", 2: "closed"},
            ),
            Panel(
                "Backpressure level",
                "Which level is crossed, counted from 1 in the order of backpressure.levels; 0 is none. The highest of"
                " any branch, each counted in its own list where it has one.",
                Unit.PROCESSES,
                (Query(f"max {BY_PIPELINE} ({metric('headgate_pipeline_level')})", "{{pipeline}}"),),
            ),
            Panel(
                "Lanes refused",
                "Lanes whose events publishers are refused, by the branch that is too far behind.",
                Unit.PROCESSES,
                (Query(f"max {BY_BRANCH} ({metric('headgate_branch_refused_lanes')})", BRANCH),),
                width=12,
            ),
            Panel(
                "Given up for their age",
                "Events a second that a level delayed until backpressure.deadlineSeconds was over; they are"
                " dead letters.",
                Unit.EVENTS_PER_SECOND,
                (Query(f"sum {BY_BRANCH} ({rate('headgate_branch_expired_total')})", BRANCH),),
                width=12,
            ),
        ),
    ),
    Row(
        "Workers, their server and their targets",
        (
            Panel(
                "Events a settle",
                "Events that one script settles together: median and 99th percentile. It grows with the load; 1 under"
                " load means that each outcome waits for the server.",
                Unit.EVENTS,
                p50_p99("headgate_worker_settle_batch_events"),
            ),
            Panel(
                "Taken over",
                "Events a second that were taken over from workers that died.",
                Unit.EVENTS_PER_SECOND,
                (Query(f"sum {BY_BRANCH} ({rate('headgate_worker_claimed_events_total')})", BRANCH),),
            ),
            Panel(
                "Trouble with the server",
                "A second: reads and heartbeats the server left unanswered or refused, and leases that were lost over"
                " it. What is held under a lost lease is done again by others.",
                Unit.EVENTS_PER_SECOND,
                (
                    Query(
                        f"sum {BY_BRANCH} ({rate('headgate_worker_server_failures_total')})",
                        f"failures {BRANCH}",
                    ),
                    Query(
                        f"sum {BY_BRANCH} ({rate('headgate_worker_lost_leases_total')})",
                        f"lost leases {BRANCH}",
                    ),
                ),
            ),
            Panel(
                "Circuit breaker",
                "The worst of a branch's workers. Open: the target failed again and again, and is left alone a while.",
                Unit.PROCESSES,
                (Query(f"max {BY_BRANCH} ({metric('headgate_worker_breaker')})", BRANCH),),
                Kind.STATES,
                states={0: "closed", 1: "half-open", 2: "open"},
            ),
            Panel(
                "Pause of the target",
                "Seconds until the target may be called again: it asked for a pause, or its circuit breaker is open.",
                Unit.SECONDS,
                (Query(f"max {BY_BRANCH} ({metric('headgate_worker_pause_seconds')})", BRANCH),),
            ),
            Panel(
                "Effects elsewhere",
                "Effects a second on other partitions and pipelines, which a relay brings there.",
                Unit.EVENTS_PER_SECOND,
                (Query(f"sum {BY_BRANCH} ({rate('headgate_worker_outboxed_effects_total')})", BRANCH),),
            ),
        ),
    ),
    Row(
        "From publish to result",
        (
            Panel(
                "End to end",
                "Seconds from publish to settled, each branch: median and 99th percentile.",
                Unit.SECONDS,
                p50_p99("headgate_worker_end_to_end_seconds"),
            ),
            Panel(
                "Waiting for a worker",
                "Seconds from publish to the start of the handler: median and 99th percentile.",
                Unit.SECONDS,
                p50_p99("headgate_worker_queue_seconds"),
            ),
            Panel(
                "In the handler",
                "Seconds a handler took for one attempt: median and 99th percentile.",
                Unit.SECONDS,
                p50_p99("headgate_worker_handler_seconds"),
            ),
            Panel(
                "Published",
                "Events published a second, each pipeline.",
                Unit.EVENTS_PER_SECOND,
                (Query(f"sum {BY_PIPELINE} ({rate('headgate_pipeline_published_total')})", "{{pipeline}}"),),
            ),
            Panel(
                "Joined",
                "Final records a second: complete, or partial (a branch was missing at the time-out or had failed)."
                " Empty for pipelines without a join.",
                Unit.EVENTS_PER_SECOND,
                (
                    Query(
                        f"sum by (namespace, pipeline, completeness) ({rate('headgate_pipeline_joined_total')})",
                        "{{pipeline}} {{completeness}}",
                    ),
                ),
            ),
            Panel(
                "Dead letters a branch",
                "Events that used up their attempts or failed for good. They stay until somebody redrives or purges"
                " them.",
                Unit.EVENTS,
                (Query(f"sum {BY_BRANCH} ({metric('headgate_branch_dead_letters')})", BRANCH),),
            ),
        ),
    ),
    Row(
        "Lost, tried again, on the way",
        (
            Panel(
                "Lost to retention",
                "Events a second that went before a branch had settled them, because the source was full"
                " (retention.maxEvents) or they were too old (maxAgeSeconds); and dead letters that went because there"
                " were too many. Should be zero.",
                Unit.EVENTS_PER_SECOND,
                (
                    Query(
                        f"sum {BY_BRANCH} ({rate('headgate_branch_unread_trimmed_total')})",
                        f"unsettled {BRANCH}",
                    ),
                    Query(
                        f"sum {BY_BRANCH} ({rate('headgate_branch_dead_letters_dropped_total')})",
                        f"dead letters {BRANCH}",
                    ),
                ),
            ),
            Panel(
                "Redriven",
                "Dead letters a second that somebody had tried again.",
                Unit.EVENTS_PER_SECOND,
                (Query(f"sum {BY_BRANCH} ({rate('headgate_branch_redriven_total')})", BRANCH),),
            ),
            Panel(
                "Outbox",
                "Events that handlers or the join emitted and that have not reached their pipeline yet. Near zero is"
                " healthy; growing means the relay does not get through, or their pipeline does not exist.",
                Unit.EVENTS,
                (Query(f"sum {BY_PIPELINE} ({metric('headgate_pipeline_outbox_entries')})", "{{pipeline}}"),),
            ),
        ),
    ),
    Row(
        "Operator",
        (
            Panel(
                "Leader",
                "Operator processes that lead. One is healthy; none for more than five seconds means that"
                " nothing scales and no change is taken in, while events flow on.",
                Unit.PROCESSES,
                (Query("sum(headgate_operator_leader)", "leading"),),
                Kind.NUMBER,
                width=4,
            ),
            Panel(
                "Version",
                "Operator processes by version: two versions for long is a roll-out that is stuck.",
                Unit.PROCESSES,
                (Query("sum by (version) (headgate_operator_build_info)", "{{version}}"),),
                Kind.NUMBER,
                width=4,
            ),
            Panel(
                "Passes",
                "Passes over pipelines a second by outcome. Problems are in the pipelines' conditions, errors in the"
                " operator's log.",
                Unit.EVENTS_PER_SECOND,
                (
                    Query(
                        f"sum by (outcome) ({own_rate('headgate_operator_reconciles_total')})", "{{outcome}}"
                    ),
                ),
            ),
            Panel(
                "Time of a pass",
                "How long a pass over a pipeline takes.",
                Unit.SECONDS,
                (
                    Query(own_quantile(0.5, "headgate_operator_reconcile_seconds"), "p50"),
                    Query(own_quantile(0.99, "headgate_operator_reconcile_seconds"), "p99"),
                ),
            ),
            Panel(
                "Pipelines that wait for a pass",
                "Near zero but for a moment after a start; growing means the operator is too slow or stuck.",
                Unit.EVENTS,
                (Query("sum(headgate_operator_queue_pipelines)", "waiting"),),
            ),
            Panel(
                "Time of a tick",
                "How long the pilot measures, decides and applies. Above a second it looks at pipelines less often.",
                Unit.SECONDS,
                (
                    Query(own_quantile(0.5, "headgate_pilot_tick_seconds"), "p50"),
                    Query(own_quantile(0.99, "headgate_pilot_tick_seconds"), "p99"),
                    Query(own_quantile(0.99, "headgate_pilot_tick_lateness_seconds"), "late p99"),
                ),
            ),
            Panel(
                "Decisions",
                "Changes of mind about workers a second, by reason (docs/guides/scaling.md).",
                Unit.EVENTS_PER_SECOND,
                (Query(f"sum by (reason) ({own_rate('headgate_pilot_decisions_total')})", "{{reason}}"),),
            ),
        ),
    ),
)
