"""Webhooks: signed requests to URLs of users' choice when tasks end.

===================  ===========================================================================
``addresses``        which URLs and addresses may be asked at all; pure
``signature``        secrets and signed headers, as the Standard Webhooks specification has them
``post``             one HTTPS request to one checked address; no redirects, bounded
``sender``           news to receivers: at least once, in order, with back-off
===================  ===========================================================================

A request holds ids and states, never arguments or results. News are stored in the transaction that
ends a task; until a receiver answers 2xx they are sent again, after a restart too.
"""
