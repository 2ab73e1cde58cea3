-- Keeps leases alive.
-- ARGV[1] ms they are held   then for each: id, epoch
-- Returns the places in the list (from 0) of those that are lost
assert(#ARGV % 2 == 1, 'renew: the term and 2 arguments for each lease')
local expires, leases, lost = now() + tonumber(ARGV[1]), cell .. 'lease', {}
-- See withdraw: a write that needs no memory comes first.
call('ZREM', leases, '')
for at = 2, #ARGV, 2 do
  local id = ARGV[at]
  local held = call('ZSCORE', leases, id)
  if held and call('HGET', cell .. 'm:' .. id, 'e') == ARGV[at + 1] then
    call('ZADD', leases, expires, id)
  else
    lost[#lost + 1] = at / 2 - 1
  end
end
return lost
