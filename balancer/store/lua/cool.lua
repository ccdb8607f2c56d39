-- Put an account, or a scope of it, in a cooldown.
--
-- ARGV  10 account   11 length in ms   12 "=scope" or ""   13 reason   14 "1": worth waiting
-- Answer  1 if there is such an account

local id = ARGV[10]
enter()
local account = read(ACCOUNTS, id)
if not account then return leave() end
cool(id, account, {
  scope = optional(ARGV[12]), ends = now + tonumber(ARGV[11]), reason = ARGV[13],
  worth_waiting = ARGV[14] == '1',
})
return leave(1)
