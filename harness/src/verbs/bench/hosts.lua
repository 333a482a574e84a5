-- What people write instead of a filter: hosts from a table, the direction by the source address.
local hosts = {
--HOSTS--
}

function envoy_on_request(handle)
  local headers = handle:headers()
  local host = string.lower(headers:get(":authority") or "")
  local colon = string.find(host, ":", 1, true)
  if colon then
    host = string.sub(host, 1, colon - 1)
  end
  if not hosts[host] then
    handle:respond({[":status"] = "403"}, "host not allowed\n")
    return
  end
  local direction = "north-south"
  local source = handle:streamInfo():downstreamRemoteAddress()
  if string.sub(source, 1, 6) == "127.1." then
    direction = "east-west"
  end
  headers:replace("x-traffic-direction", direction)
end
