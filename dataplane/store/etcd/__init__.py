"""A policy kept in an etcd cluster, which many hosts share and watch.

What stands there, under the prefix of the store's address:

| key | what it is |
|---|---|
| ``current`` | which epoch is in force |
| ``epochs/E/head`` | the number of the change that was made last, and all of the document but its rows |
| ``epochs/E/rows/SECTION/ID`` | a security group, a rule, an address group, an instance, a balancer, an uplink |
| ``writing/E`` | an epoch that is being written, as long as its lease lasts |
| ``hosts/NAME`` | what a host says of itself, as long as its lease lasts |
| ``known/NAME`` | what a host said last, until it is forgotten |
| ``canary`` | which epoch some hosts judge by beside the one in force, and which hosts, as long as its lease lasts |

A change is one transaction, which holds only while the head is the one that was seen: of two changes at once one is
made, and the other is made upon it or refused. What is too much for one transaction is written as a new epoch, which
nobody looks at until one transaction makes it the current one. So there is one order of changes for all, and each is
seen as a whole.
"""
