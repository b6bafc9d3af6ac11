"""A stateful stand-in for the Stripe API, reached by base URL through the unmodified SDK.

    python -m billing_service.sandbox.stripe --port N [--host 127.0.0.1] [--data FILE] [--ready-fd N]

`--port 0` takes a free port; the first line on standard output (and on --ready-fd) is
`{"url": "http://127.0.0.1:PORT", "port": PORT, "pid": PID}`. Without --data the state lives in memory; with it every
answered request survives kill -9. Default key `sk_test_sandbox` of account `acct_sandbox`.

Times below are seconds. Durations of faults, delivery delays and `lag` are real time; `created`, retries of
deliveries, idempotency keys and billing follow the sandbox's clock (real time + offset).

The control plane, JSON in and out, no authentication, errors `{"error": "..."}` with 400, 404 or 409:

    GET    /_control                       {ok, now, offset, accounts, objects: {kind: n}, settings}
    POST   /_control/reset                 everything as at first start, the clock included
    POST   /_control/clock                 {advance: seconds} or {set: epoch}; forward only; runs billing up to then.
                                           With {stop: true} it stands still until a reset or restart
    POST   /_control/ids                   {seed}: new ids follow from the seed and those made since, the same each
                                           time, until a reset or restart; null: by chance
    GET    /_control/settings
    POST   /_control/settings              any of the SETTINGS of settings.py: rate_limit, rate_limit_reads,
                                           rate_limit_writes (per second, null: off), draft_seconds,
                                           dunning_retries ([seconds]), dunning_final (canceled, unpaid, past_due),
                                           payment_outcome (succeed, decline, none), delivery_mode (auto, hold),
                                           delivery_retries ([seconds]), delivery_timeout,
                                           signature_clock (real, sandbox), calendar_follows_time (bool)
    POST   /_control/faults                {match: {method?, path? (regex), key?}, times? (1; null: for ever),
                                           after? (0), kind, ...} -> {id, ...}. Kinds:
                                           rate_limited(retry_after?, reason?),
                                           error(status=500, body?, stored?, after_effect?), lock_timeout, drop,
                                           drop_after, delay(seconds), timeout_before(seconds), timeout_after(seconds),
                                           lag(seconds)
    GET    /_control/faults                {items: [{id, hits, left, ...}]}
    DELETE /_control/faults[/{id}]
    GET    /_control/requests              ?method= &path= (regex) &status= &key= &limit=100
                                           {count, total, items: [{at, method, path, params, query, body, key,
                                           idempotency_key, version, status, request_id, fault, replayed,
                                           milliseconds}]}, newest last; status null: no answer was sent
    POST   /_control/requests/clear
    GET    /_control/deliveries            ?state=held|pending|failed|succeeded|dropped &type= &event=
                                           {mode, items: [{id, event, type, endpoint, url, state, attempts,
                                           next_attempt_at, last_status, last_error, body, headers}]}, oldest first
    POST   /_control/deliveries            {mode: auto | hold}
    POST   /_control/deliveries/release    {ids?: [in this order; default all held], wait?: true} -> {items: outcomes}
    POST   /_control/deliveries/{id}/drop | duplicate | delay {seconds} | reorder {position}
    POST   /_control/events/{id}/resend    {endpoint?}: one more delivery of an event
    POST   /_control/accounts              {id?, key?, api_version?, name?} -> {id, key}
    POST   /_control/keys                  {account?, key?, permissions?: {resource: none|read|write}} -> {key}
    POST   /_control/customers/{id}/payment {outcome: succeed | decline | none, code?, account?}
    POST   /_control/checkout/sessions/{id}/complete
                                           {outcome?: paid | unpaid | no_payment_required | declined, email?, name?,
                                           code?, account?}: the buyer pays; default paid, or free. unpaid: by a
                                           delayed method; declined: the card, and the session stays open
    POST   /_control/checkout/sessions/{id}/settle
                                           {outcome: succeed | fail, code?, account?}: a delayed payment ends
    POST   /_control/refunds/next          {times? (1), pending_reason?, account?}: the next refunds are pending
    POST   /_control/refunds/{id}/settle   {outcome: succeed | fail, failure_reason?, account?}: a pending refund
                                           ends, or a succeeded one fails; the charge gets a failed amount back
    POST   /_control/charges/{id}/dispute  {reason?, amount?, inquiry?: false, account?} -> the dispute
    POST   /_control/disputes/{id}/close   {outcome: won | lost | warning_closed (an inquiry), account?}
    POST   /_control/objects/{id}          {patch: {...}, event?: type, account?}: deep merge, past all rules;
                                           `event` emits it (default: silently); a subscription patched to a
                                           period that is over is not renewed
    POST   /_control/subscriptions/{id}    the same
    DELETE /_control/objects/{id}          as if it had never been (its events stay)
    POST   /_control/endpoints/{id}/roll   {expires_in?: 86400} -> {secret, previous}
    POST   /_control/events                {type, object, previous?, account?}: an event out of thin air
    POST   /_control/seed                  {count, prices, created_from?, created_to?, organization_base?,
                                           metadata_key?, statuses?: {status: weight}, period_start?, batch?,
                                           account?} -> {batch, count, first, last}; ids sub_1SeedBBIIIIIIII and
                                           cus_SeedBBIIIIIIII (batch, index); see seeds.py

`control.Control` is the client.
"""

DEFAULT_ACCOUNT = "acct_sandbox"
DEFAULT_KEY = "sk_test_sandbox"
CURRENT_VERSION = "2026-10-28.endive"
