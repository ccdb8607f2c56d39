-- Put into effect what an answer said about a lease and its account.
--
-- ARGV  10 key   11 "1": accepted   12 "1": in doubt   13 "1": adverse
--       14 length of the cooldown in ms, or ""   15 "=scope" or ""   16 reason   17 "1": worth waiting
-- Answer  1 if the lease is live

local key, length = ARGV[10], tonumber(ARGV[14])
enter()
local row = read(ROWS, key)
if not row then return leave() end
local id = row.account
local account = read(ACCOUNTS, id)
if ARGV[11] == '1' and account then conclude(id, account, key, true) end
if ARGV[12] == '1' and row.state ~= 'bound' then loosen(key, row, 'ambiguous', now + AMBIGUOUS_TTL) end
if ARGV[13] == '1' then row.adverse = true end
write(ROWS, key, row)
if length and account then
  cool(id, account, {
    scope = optional(ARGV[15]), ends = now + length, reason = ARGV[16], worth_waiting = ARGV[17] == '1',
  })
end
return leave(1)
