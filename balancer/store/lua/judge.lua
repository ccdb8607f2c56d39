-- Put into effect what an answer said about a lease and its account.
--
-- ARGV  9 key   10 "1": accepted   11 "1": in doubt   12 "1": adverse
--       13 length of the cooldown in ms, or ""   14 "=scope" or ""   15 reason   16 "1": worth waiting
-- Answer  1 if the lease is live

local key, length = ARGV[9], tonumber(ARGV[13])
enter()
local row = read(ROWS, key)
if not row then return leave() end
local id = row.account
local account = read(ACCOUNTS, id)
if ARGV[10] == '1' and account then conclude(id, account, key, true) end
if ARGV[11] == '1' and row.state ~= 'bound' then loosen(key, row, 'ambiguous', now + AMBIGUOUS_TTL) end
if ARGV[12] == '1' then row.adverse = true end
write(ROWS, key, row)
if length and account then
  cool(id, account, {
    scope = optional(ARGV[14]), ends = now + length, reason = ARGV[15], worth_waiting = ARGV[16] == '1',
  })
end
return leave(1)
