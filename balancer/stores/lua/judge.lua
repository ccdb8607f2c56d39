-- Put into effect what an answer said about a lease and its account.
--
-- ARGV  6 key   7 "1": accepted   8 "1": in doubt   9 "1": adverse
--       10 length of the cooldown in ms, or ""   11 "=scope" or ""   12 reason   13 "1": worth waiting
-- Answer  1 if the lease is live

local key, length = ARGV[6], tonumber(ARGV[10])
enter()
local row = read(K.rows, key)
if not row then return leave() end
local id = row.account
local account = read(K.accounts, id)
if ARGV[7] == '1' and account then conclude(id, account, key, true) end
if ARGV[8] == '1' and row.state ~= 'bound' then loosen(key, row, 'ambiguous', now + AMBIGUOUS_TTL) end
if ARGV[9] == '1' then row.adverse = true end
write(K.rows, key, row)
if length and account then
  cool(id, account, {
    scope = optional(ARGV[11]), ends = now + length, reason = ARGV[12], worth_waiting = ARGV[13] == '1',
  })
end
return leave(1)
