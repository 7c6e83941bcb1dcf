-- One kind of request, again and again; at the end one line of JSON that bench/gateway.py reads.
wrk.method = "POST"
wrk.body = os.getenv("BENCH_BODY")
for line in string.gmatch(os.getenv("BENCH_HEADERS"), "[^\n]+") do
  local name, value = string.match(line, "^(.-): (.*)$")
  wrk.headers[name] = value
end

-- Of so many different prompts, if that is asked for.
local prompts, number = tonumber(os.getenv("BENCH_PROMPTS") or "1"), tonumber(os.getenv("BENCH_FIRST") or "0")
if prompts > 1 then
  function request()
    number = number + 1
    return wrk.format(nil, nil, nil, (string.gsub(wrk.body, "foxes", "foxes " .. math.floor(number % prompts), 1)))
  end
end

function done(summary, latency, requests)
  local bad = summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.status
            + summary.errors.timeout
  io.write(string.format('\nRESULT {"requests": %d, "micros": %d, "bad": %d, "mean": %d, "p50": %d, "p99": %d}\n',
    summary.requests, summary.duration, bad, latency.mean, latency:percentile(50), latency:percentile(99)))
end
