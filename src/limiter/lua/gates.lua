-- Tells which gates are shut.
-- KEYS     the gates
-- ARGV     [now]
-- Returns  for each gate: {how long still, reason}, or nil when it is open
assert(#KEYS >= 1 and #ARGV <= 1, 'gates: wrong arity')
local now = time_now(ARGV[1])
local answer = redis.call('MGET', unpack(KEYS))
for index, gate in ipairs(answer) do
  if gate then
    local till, reason = string.match(gate, '^(%S+) (.*)$')
    local left = tonumber(till) - now
    answer[index] = left > 0 and { exact(left), reason }
  end
end
return answer
