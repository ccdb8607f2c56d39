-- Put an account, or a scope of it, in a cooldown.
--
-- ARGV  6 account   7 length in ms   8 "=scope" or ""   9 reason   10 "1": worth waiting
-- Answer  1 if there is such an account

local id = ARGV[6]
enter()
local account = read(K.accounts, id)
if not account then return leave() end
cool(id, account, {
  scope = optional(ARGV[8]), ends = now + tonumber(ARGV[7]), reason = ARGV[9],
  worth_waiting = ARGV[10] == '1',
})
return leave(1)
