"""How long anything waits for Redis before it takes the connection for dead.

A half-open connection (a firewall that has forgotten it, a host that has gone) is silent and nothing else. A process has
several connections and meets them one after the other, so each is given little of the ten seconds until all is well again.
"""

#: Time for Redis to answer a command, in seconds.
ANSWER_S = 2.0
#: Time for a connection to be made, in seconds.
CONNECT_S = 2.0
#: Silence after which a waiting connection is tested, in whole seconds as kombu wants them.
TEST_AFTER_S = 2
