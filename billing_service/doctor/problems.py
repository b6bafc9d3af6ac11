"""Every problem that the doctor knows, by its stable code: how bad it is, why it matters, what to do."""

from typing import NamedTuple


class Problem(NamedTuple):
    """Why a problem matters and what is to be done, in words for whoever is woken by it."""

    severity: str
    why: str
    do: str


def _error(why: str, do: str) -> Problem:
    return Problem("error", why, do)


def _warning(why: str, do: str) -> Problem:
    return Problem("warning", why, do)


PROBLEMS: dict[str, Problem] = {
    # Before anything starts.
    "configuration_refused": _error(
        "No process of the service starts with it.",
        "Correct the variable; docs/configuration.md says what it means and what it may be.",
    ),
    "plan_file_refused": _error(
        "No process of the service starts with it: prices could not be told from each other.",
        "Correct the line of the file that BILLING_PLANS names, then start the processes anew.",
    ),
    "sample_plans_in_live_mode": _warning(
        "The sample's prices are nobody's: live subscriptions stay without a plan.",
        "Write your own plan file and name it by BILLING_PLANS.",
    ),
    "no_alert_receiver": _warning(
        "Nobody is told of dead letters, failed jobs and divergences of live customers.",
        "Set ALERT_WEBHOOK_URL (and ALERT_WEBHOOK_SECRET, if it is not Slack's).",
    ),
    "check_failed": _error(
        "What it looks at is not known to be right; the doctor itself has a bug.",
        "Run it once more; report it with this line if it stays.",
    ),
    "check_timed_out": _error(
        "Whatever answers so slowly slows the service down as well.",
        "Look at the part that the check is about; then run the doctor once more.",
    ),
    "not_checked": _warning(
        "What cannot be looked at may be wrong as well.",
        "Mend the error above first, then run the doctor once more.",
    ),
    # Stripe.
    "stripe_not_configured": _warning(
        "Nothing can be asked of Stripe: no sync, cancel, refund, replay or reconciliation, and webhooks are refused.",
        "Set STRIPE_SECRET_KEY and STRIPE_WEBHOOK_SECRETS.",
    ),
    "stripe_unreachable": _error(
        "Webhooks are taken in and wait; repairs are refused until Stripe answers.",
        "Look at https://status.stripe.com, then at this machine's network and STRIPE_API_BASE. Events go on by "
        "themselves afterwards.",
    ),
    "stripe_key_refused": _error(
        "Every call to Stripe fails; events wait for three days and are dead letters then.",
        "Make a new key in Stripe's dashboard, set STRIPE_SECRET_KEY, start all processes anew.",
    ),
    "stripe_account_differs": _error(
        "The processes refuse to start: with such a key everything would look as if it were gone, or somebody else's.",
        "Set the key of the account and mode that the database belongs to, or name another database by MONGODB_URI.",
    ),
    "stripe_permission_missing": _error(
        "The calls named fail each time; events that need them wait and are dead letters after three days.",
        "Grant the permission to the restricted key in Stripe's dashboard; nothing needs to be started anew.",
    ),
    "stripe_permission_for_doctor_missing": _warning(
        "The service works without it, but the doctor cannot see whether Stripe is set up for it.",
        "Grant the permission to the restricted key in Stripe's dashboard.",
    ),
    "clock_skewed": _warning(
        "From a minute on every event costs a request to Stripe, from five minutes on webhooks are refused.",
        "Have the clock of this machine kept by NTP (timedatectl).",
    ),
    "clock_wrong": _error(
        "Webhooks whose signature seems to be five minutes away are refused, and every other one costs a request.",
        "Set the clock of this machine and have it kept by NTP (timedatectl).",
    ),
    "webhook_endpoint_missing": _error(
        "Stripe sends nothing here: what happens there is seen an hour later, or not at all.",
        "Make a webhook endpoint for <PUBLIC_URL>/api/billing/webhook with the types that billing-service "
        "webhook-types lists, and put its secret into STRIPE_WEBHOOK_SECRETS.",
    ),
    "webhook_endpoint_elsewhere": _error(
        "Stripe sends events to another address than the one that PUBLIC_URL says is ours.",
        "Correct the endpoint's address in Stripe's dashboard, or PUBLIC_URL.",
    ),
    "webhook_endpoint_disabled": _error(
        "Stripe sends nothing to it; it disables endpoints that failed for days.",
        "Enable it in Stripe's dashboard. What was missed is taken in each hour (jobs run missed_events: now).",
    ),
    "webhook_endpoint_ambiguous": _warning(
        "Which of them is this installation's is not known, so none was looked at.",
        "Set PUBLIC_URL to the address of this installation.",
    ),
    "webhook_endpoint_twice": _warning(
        "Every event arrives once for each of them, and is paid for with time.",
        "Delete all but one, and its secret from STRIPE_WEBHOOK_SECRETS.",
    ),
    "webhook_types_missing": _error(
        "What these tell is never seen: the database drifts from Stripe.",
        "Add them to the endpoint in Stripe's dashboard (billing-service webhook-types lists all).",
    ),
    "webhook_types_unneeded": _warning(
        "They are stored and ignored: work and disk space for nothing.",
        "Remove them from the endpoint in Stripe's dashboard (billing-service webhook-types lists what is needed).",
    ),
    "webhook_api_version": _warning(
        "Events of a version that is not read are not applied from their payload: each costs a request to Stripe.",
        "Make the endpoint anew with the API version of this service, or update the service.",
    ),
    "webhooks_not_arriving": _error(
        "Events come an hour late, by the hourly look at Stripe's list; the secret or the address is wrong.",
        "Compare STRIPE_WEBHOOK_SECRETS with the endpoint's signing secret in Stripe's dashboard; see its failed "
        "deliveries there: 400 is the secret, 404 the address.",
    ),
    "webhook_secret_unused": _warning(
        "A rotation is not finished, or the secret is another endpoint's.",
        "Once the old one has expired at Stripe, remove it from STRIPE_WEBHOOK_SECRETS.",
    ),
    "price_missing": _error(
        "A subscription with the price that is meant here stays without a plan.",
        "Correct the price's id in the plan file, then start the processes anew.",
    ),
    "price_of_other_mode": _error(
        "It is a price of the other mode (live or test): nobody's subscription has it here.",
        "Name the price of this mode, or another plan file by BILLING_PLANS.",
    ),
    "price_inactive": _warning(
        "Nobody can buy it any more.",
        "Add the price that is sold now to the plan file, or activate this one at Stripe.",
    ),
    "price_of_wrong_kind": _error(
        "Plans are paid again and again, packs once: the other kind is never bought as what it is here.",
        "Name a recurring price for a plan and a one-time price for a pack.",
    ),
    "pack_price_differs": _error(
        "Customers pay another amount than the one that units are refunded and credited by.",
        "Correct amount and currency in the plan file (minor units), or name another price.",
    ),
    # MongoDB.
    "mongodb_unreachable": _error(
        "Nothing works: webhooks are answered with 503 and sent again by Stripe for three days.",
        "Start MongoDB, or correct MONGODB_URI (address, user, password).",
    ),
    "mongodb_version": _error(
        "Indexes that the service needs cannot be made by it.",
        "Run MongoDB 6.0 or later.",
    ),
    "mongodb_no_transactions": _error(
        "No process starts: a decision could be written half.",
        "Make it a replica set, of one node if need be (rs.initiate()).",
    ),
    "mongodb_write_concern": _error(
        "No process starts: a webhook that was answered could be lost with one node.",
        "Set it: db.adminCommand({setDefaultRWConcern: 1, defaultWriteConcern: {w: 'majority'}}).",
    ),
    "mongodb_single_node": _warning(
        "With that one machine everything is gone that was not saved elsewhere.",
        "Run three nodes for live data.",
    ),
    "index_missing": _error(
        "What is read by it reads everything instead; what it keeps unique can be there twice.",
        "Run billing-service indexes. It may run while the service works.",
    ),
    "index_differs": _error(
        "It has the right name and another meaning: it is not used, or lets through what it should refuse.",
        "Drop it by name (db.<collection>.dropIndex), then run billing-service indexes at once.",
    ),
    "index_retired": _warning(
        "An earlier version's index costs time with each write, or refuses what this version writes.",
        "Run billing-service indexes.",
    ),
    # Redis.
    "redis_unreachable": _error(
        "Webhooks are stored and wait, jobs do not run.",
        "Start Redis, or correct REDIS_URL (address, password). Nothing is lost; the sweep goes on.",
    ),
    "redis_version": _error("The queues do not work with it.", "Run Redis 5.0 or later, or Valkey."),
    "redis_evicts": _error(
        "When its memory is full it throws queued jobs and the calendar away without a word.",
        "Set maxmemory-policy noeviction.",
    ),
    "redis_not_persistent": _warning(
        "With a restart of Redis all that waits in its queues is gone, and found again only by the sweep.",
        "Switch appendonly on.",
    ),
    "redis_read_only": _error(
        "Nothing can be put into a queue: it is the copy of another Redis.",
        "Name the primary by REDIS_URL.",
    ),
    # Processes.
    "no_worker": _error(
        "Events are stored and nobody handles them; no job runs.",
        "Start billing-service worker.",
    ),
    "queue_unserved": _error(
        "What is put into this queue waits for ever.",
        "Start billing-service worker of this version; it serves all queues.",
    ),
    "scheduler_not_running": _error(
        "No job of the calendar runs: no sweep, no reconciliation, no retries that were lost.",
        "Start billing-service scheduler. One slot that was missed is made up for.",
    ),
    "schedule_differs": _warning(
        "A scheduler of another version runs, or none that repairs it (each does so once a minute).",
        "Start billing-service scheduler of this version, and no other.",
    ),
    "job_overdue": _error(
        "What it does for customers is not done: resets, dunning, the comparison with Stripe.",
        "See billing-service jobs list; run it now by billing-service jobs run NAME.",
    ),
    "job_failed": _error(
        "It was tried three times and given up; its next slot is its next chance.",
        "See the error in billing-service jobs list, mend it, then billing-service jobs run NAME.",
    ),
    # What waits.
    "events_late": _warning(
        "Customers wait for what they paid for.",
        "See billing-service events tail --state failed and the findings about worker, scheduler and Stripe.",
    ),
    "events_stuck": _error(
        "Customers have waited for an hour and longer for what they paid for.",
        "See billing-service events tail --state failed and the findings about worker, scheduler and Stripe.",
    ),
    "dead_letters": _warning(
        "Each is a change at Stripe that did not arrive in the database.",
        "See billing-service dead-letters groups, then docs/runbooks/dead-letters.md.",
    ),
    "dispatch_paused": _warning(
        "Events are received and wait until somebody resumes.",
        "See billing-service dispatch status; billing-service dispatch resume lets them go on.",
    ),
}
