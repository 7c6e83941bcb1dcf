-- One kind of request, again and again; at the end one line of JSON that bench/gateway.py reads.
wrk.method = "POST"
wrk.body = os.getenv("BENCH_BODY")
for line in string.gmatch(os.getenv("BENCH_HEADERS"), "[^\n]+") do
  local name, value = string.match(line, "^(.-): (.*)$")
  wrk.headers[name] = value
end

function done(summary, latency, requests)
  local bad = summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.status
            + summary.errors.timeout
  io.write(string.format('\nRESULT {"requests": %d, "micros": %d, "bad": %d, "mean": %d, "p50": %d, "p99": %d}\n',
    summary.requests, summary.duration, bad, latency.mean, latency:percentile(50), latency:percentile(99)))
end
