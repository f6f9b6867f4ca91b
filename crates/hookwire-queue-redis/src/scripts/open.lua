-- Everything that was published before a change of the number of shards is fanned out: this shard's events may go.
--
-- Reply: 1.
M.gate = 0
news_events = true
done()
return 1
