-- Put into effect what an answer said about a lease and its account.
--
-- ARGV  6 key   7 "1": accepted   8 "1": in doubt   9 "1": adverse
--       10 length of the cooldown in ms, or ""   11 "=scope" or ""   12 reason   13 "1": worth waiting
--       14 account   15 "1": the answer named the length   16 "1": it tells how many jobs the account bears
-- Answer  {1 if the lease is live, 1 if the account cools for it}

local key, length, id = ARGV[6], tonumber(ARGV[10]), ARGV[14]
enter()
local row, account = read(K.rows, key), read(K.accounts, id)
if row then
  if ARGV[7] == '1' and account then conclude(id, account, key, true) end
  if ARGV[8] == '1' and row.state ~= 'bound' then loosen(key, row, 'ambiguous', now + AMBIGUOUS_TTL) end
  if ARGV[9] == '1' then row.adverse = true end
  write(K.rows, key, row)
end
if length and account then
  cool(id, account, {
    scope = optional(ARGV[11]), ends = now + length, reason = ARGV[12], worth_waiting = ARGV[13] == '1',
  })
end
return leave({row and 1 or 0, length and account and 1 or 0})
