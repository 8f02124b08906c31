"""VPC networks: `/v2/vpcs`."""

from __future__ import annotations

from deployments.sandbox.bodies import vpc_body
from deployments.sandbox.endpoints.call import Call, find_named
from deployments.sandbox.responses import ResponseBody, json_response


def list_vpcs(call: Call) -> ResponseBody:
    """`GET /v2/vpcs`."""
    return call.listing("vpcs", list(call.account.vpcs.values()), vpc_body)


def get_vpc(call: Call) -> ResponseBody:
    """`GET /v2/vpcs/{vpc_id}`."""
    return json_response(200, {"vpc": vpc_body(find_named(call.account.vpcs, call.params["vpc_id"]))})
