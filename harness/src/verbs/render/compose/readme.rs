//! The project's README.

use crate::lab::compose::Networks;

/// The text.
pub(super) fn readme(networks: &Networks) -> String {
    let Networks {
        inside, outside, ..
    } = networks;
    format!(
        "\
# A policy at work, with docker alone

A mesh in containers: an ingress gateway, an egress gateway, the applications `shop` and `orders` and the
system component `console`, each behind a sidecar, all of them Envoys with Meridian's filters; NGINX as the
ingress of the system component; servers outside; Prometheus and Grafana. Two commands, in this folder:

```console
$ docker compose up --detach
$ docker compose run --rm traffic
```

The first builds the image of Meridian's command line where there is none (some minutes, once), makes
certificates, and starts everything. The second sends requests and prints, for each, its way, its tag and
what every filter decided, whether that is what the policy says, then what Prometheus has counted. With
Debian's packages `docker.io` and `docker-compose` the command is `docker-compose`.

## Ask for something yourself

The host's requests come from docker's bridge, which is outside:

```console
$ curl http://127.0.0.1:8080/ -H 'Host: shop.example.com'        # north-south, allowed
$ curl http://127.0.0.1:8080/ -H 'Host: intranet.example.com'    # no rule names it: 403
$ curl http://127.0.0.1:8081/ -H 'Host: console.system.example.com'   # by NGINX, a system component
```

A workload answers with what arrived, the tags among it. Asked for `/fetch/HOST/PATH`, it asks HOST in its
turn, through its sidecar, and answers with what came back:

```console
$ curl http://127.0.0.1:8080/fetch/orders.orders/ -H 'Host: shop.example.com'        # east-west
$ curl http://127.0.0.1:8080/fetch/api.partner.example/ -H 'Host: shop.example.com'  # by the egress gateway
$ curl http://127.0.0.1:8080/fetch/tracker.example/ -H 'Host: shop.example.com'      # denied there
```

Prometheus is at <http://127.0.0.1:9090>, Grafana with the dashboard at <http://127.0.0.1:3000>. Ports are
in `.env`, and on the loopback address alone.

## Change the policy

Edit `policy/policy.yaml`: the service `policy` sees it within a second, and every Envoy has the new one
without losing a connection. One with errors is refused, and the old one stays in force:

```console
$ docker compose logs --follow policy
```

The names of the tag headers and `mesh.cidrs` stand in other files, too; after changing those, run
`meridian render compose --policy policy/policy.yaml --out .` and `docker compose up --detach`. Every decision is
in the access logs: `docker compose logs ingress`.

## What is where

| network | subnet | who |
|---|---|---|
| `inside` | {inside}, within the policy's `mesh.cidrs` | gateways, NGINX, workloads with their sidecars. It has no way out: outside is reached through the egress gateway alone |
| `outside` | {outside}, not in `mesh.cidrs` | the host, gateways, NGINX, servers outside |
| `monitoring` | not in `mesh.cidrs` | Prometheus, Grafana |

No container runs as root, has a capability, or can write to its image; memory, processors and processes
are bounded. Each part sees its own private key alone; keys are made anew when the volumes are.

```console
$ docker compose down --volumes
```

leaves nothing but the images.

`Dockerfile` also makes the image of a module that Istio's agent fetches (`--target modules`), and an Envoy
with modules and configuration in it (`--target envoy`).
"
    )
}
