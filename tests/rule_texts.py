"""Small texts in our own words: prose that resembles what a rule drops, and what the rule must drop.

`STAYS` maps a rule to texts that it must leave alone, as must all other rules. `GOES` maps a rule to
texts that it must drop, alone and between two paragraphs of prose. Markup is off, as the rules see it.
"""

# ruff: noqa: E501, RUF001

BEFORE = (
    "The river had come up in the night, and by the time we had found our boots the lower garden was a pond with "
    "the tops of the beans standing out of it. My mother counted the hens on the roof of the shed and said that "
    "there was one too many, and that it must have come from next door."
)
AFTER = (
    "By the end of the week the water had gone back to where it belonged, and had left behind it a grey line along "
    "every wall, as high as my knee. We painted the walls in spring. The line came through again the next winter, "
    "and nobody has tried to paint it since."
)

STAYS = {
    "forum": {
        "essay with quotations": """> A house that is finished is a house that is dead.

I found that sentence in a letter of my grandfather's, and have been angry with it for a week. He meant, I suppose, that one ought to leave a shelf unbuilt, so that there is something to come home for.

> Every nail is a promise.

He says this as well, two pages on. It is the better of the two, since it commits nobody to leaving a shelf unbuilt, and since anyone who has pulled out a nail knows what happens to promises.

> One should build as though the rain had been told of it.

I do not know what this means, and neither did he. But I have repaired that roof three times, and I have begun to think that the rain was told.

> A door is a wall that has changed its mind.

It is the last thing in the notebook. After it come eleven pages of sums, all of them about the price of slate, and all of them wrong.""",
        "wrapped quotation": """My teacher had a saying, which he wrote over the door of the workshop:

> Measure the board, then measure the man
> who told you how long it should be.

I laughed at it for years. When I had boys of my own in the shop I wrote it over the door as well.""",
        "blog post with updates": """The new ferry has no benches on the upper deck. I asked the purser why, and he said that people who sit do not buy coffee.

Update: a reader tells me that there are four benches behind the funnel.

Update 2: I have now sat on them. They are warm, and they smell of oil, and one sees nothing at all from there but the town that one has left.

Edit: the purser has written to me, too. He says that it was a joke, and that he sells no more coffee than before.

Update: the benches are gone.""",
        "blog post with a header": """Posted by Anna on March 3, 2019 at 10:15 | 4 comments

The bread did not rise. I have had the same starter for six years, and it has never sulked before, but we had the windows open all week because of the painters, and I think that it took the smell for an insult.

As my aunt says:

Feed it and leave it.

I fed it, and I left it. On the third day it came over the edge of the jar in the night, and I found it on the shelf among the spoons.""",
        "blog of several short posts": """Posted by Anna at 10:15 PM
3 comments

The swallows are back under the bridge. I counted nine, and the boy from the mill counted eleven, but he counts the ones that come round twice.

Posted by Anna at 7:40 PM
1 comment

It has rained since Tuesday. Nothing else has happened, and I find that I do not mind.

Posted by Anna at 9:05 PM
2 comments

Somebody has left a boat on the bank with a letter in it. The letter says that the boat is for whoever needs it more.""",
        "restaurant review": """Location: Bern

Date: a wet Tuesday in March

The room is long and narrow, like a railway carriage that has lost its train, and the waiter walks up and down it as if he were looking for tickets. The soup was good. The fish had come further than I had, and was more tired.

Location is everything, says the landlord, who has the only table by the window and sits at it himself.""",
        "letter with a subject": """Dear Mr. Hale,

Re: your hedge

I am sorry to trouble you again about the hedge. It has now reached the second of my windows, and my wife reads in the mornings by a green light, like a fish.

Re: our wall

You are quite right that it leans. It leaned when I bought it, and it leaned, I am told, when it was built.

Yours sincerely,
T. Marsh""",
        "essay on writers": """Montaigne says:

I have seen no more evident monster or miracle in the world than myself.

It is a good beginning for a book about oneself, and he wrote the book for twenty years without coming to the end of it.

His friend wrote:

If you press me to say why I loved him, I can say no more.

These are not the exact words of either of them. I quote from memory, as they did.

Another neighbour says:

He kept his tower warm, and his cellar dry.

It is the only sentence about the house that I should have liked to write.""",
        "diary with dates and hours": """March 3, 2015 at 4:12 pm

We have reached the hut. There is a stove, and wood for three days, and a book in which everyone before us has written that there was no wood.

March 4, 2015 at 6:40 am

Fog. I went out for water and could not find the hut again until Ben sang.

March 4, 2015 at 9:30 pm

We wrote in the book that there was wood for two days.""",
        "points of an argument": """3 points speak for the bridge.

It is cheaper than the ferry, it is open at night, and nobody has ever been sick on it.

2 points speak against it, and they were made at length by the ferryman, who had brought his children.

Joined the council in 1994, left it in 1995: that is the whole of my political life, and this meeting was the best part of it.

20 years ago a man could still be carried across on the miller's back for the price of an egg.""",
        "tldr": """tl;dr: we went to the sea and the sea was closed.

The long version begins with my brother, who had read in the paper that the road would be mended by May. He reads the paper of the year before, since it is cheaper and he says that the news is better for having been kept.

TLDR of the way back: we walked.

Reply to the many who have asked: yes, one can close the sea. One needs a gate and a man in a coat.""",
        "letters with a sign-off": """I got here on Tuesday, and the room has a bed and half a window; the other half belongs to the man next door.

Sent from my sister's kitchen

The second week was better. I found the library, which is in a chapel, and reads to one as soon as one comes in.

Sent from my sister's kitchen

You ask whether I am eating. I am eating what there is, which is cabbage, and thinking of what there is not.""",
        "questions at the top of answers": """Anna asked me on the way home whether I had ever been afraid of the river.

1 year ago I should have laughed. I had not yet seen it come over the road like a dog that has heard its name.

2 days ago it did it again, and I stood on the table with the radio in my arms. I thought of her question then, and of how lightly she had asked it, with her hand in the water.""",
        "mail in a notebook": """On March 3, 2015, Tom wrote:

> Are you coming on Sunday? Mother has asked twice.

I wrote back that I was, and then I was not. The trains stood still for two days, and I read the whole of the timetable.

On March 9, 2015, Tom wrote:

> She has stopped asking.

That was the letter I kept. It is in the drawer with the timetable.""",
        "obituary": """Joined: that is what it says on the board in the clubhouse, and below it a year. Mine says 1974.

Posts: there were four of them, one at each corner of the field, and my father had set them.

He would have been ninety this week. He played for the club for thirty years and was never once, so far as anyone recalls, on the winning side; and when they asked him at the dinner what he had liked about it he said that it had been the walk home.""",
    },
    "chat": {
        "diary with hours and dashes": """9:15 -- Left for the mill with a lantern and half a loaf.

10:40 -- Nobody there but the cat.

11:20 -- Anna came with the key, and we looked at the wheel.

12:05 -- Rain.""",
        "diary with hours and meals": """07:30 Breakfast: eggs, and the last of the ham.

10:00 Walk: as far as the weir and back by the road.

12:30 Lunch: soup with the Bergs, who had been to the sea.

19:00 Supper: bread, cheese, an apple.

07:15 Breakfast: porridge, since there were no eggs.

12:30 Lunch: the other half of the soup.

19:10 Supper: nothing, as I was asleep.""",
        "training log": """Mon 7:30 Run, six miles, wind from the sea.
Tue 7:45 Swim, cold, met a seal or a swimmer.
Wed 7:30 Run, four miles, the knee again.
Thu rest. I read about knees.
Fri 8:10 Run, two miles, turned back at the church.""",
        "diary with short hours": """Out of bed 6:10
Kettle on 6:15
At the desk 6:40
First sentence 9:20
Second sentence 11:55

On such mornings I tell myself that the second sentence is the one that counts. The first is only there to be crossed out.""",
        "interview": """Anna Berg: You came to the village in the year of the flood.

Tom Hale: I came with the flood, you might say. I had a boat, and nobody asked me for papers.

Anna Berg: And you stayed.

Tom Hale: The boat had a hole in it by then. I meant to mend it, and I still mean to.

Anna Berg: What did you live on?

Tom Hale: Eels, mostly, and the kindness of widows.""",
        "interview in lower case": """anna: You came to the village in the year of the flood. Is that right?

tom: I came with the flood, you might say. I had a boat, and nobody asked me for papers.

anna: And you stayed here for the rest of your life.

tom: The boat had a hole in it by then. I meant to mend it, and I still mean to.

anna: What did you live on in the first winter?

tom: Eels, mostly, and the kindness of widows. They never asked what I had done before.""",
        "play with a stranger": """STRANGER: Is this the road to the sea?

MILLER: It was, before the sea moved.

STRANGER: And where does it go now?

MILLER: To my sister's. You may have some soup there, if you say that I sent you.

STRANGER: I had rather have the sea.

MILLER: So had my sister.""",
        "food diary": """Breakfast: porridge with plums
Lunch: soup, bread
Supper: an omelette

Breakfast: bread and honey
Lunch: nothing
Supper: the soup again

I have kept this list since the doctor asked me to, and what I have learnt from it is that I lie to my doctor about plums.""",
        "day template": """weather: rain, wind from the west
mood: better than the weather
read: forty pages of the voyage

I had meant to go to the mill, but the path was under water, and so I read about other people's water instead.

weather: fog
mood: fog
read: nothing

One cannot read in a fog. The words come up one by one, like sheep.""",
        "timetable in a travel note": """The bus goes three times a day, and the driver waits for nobody but his mother.

Market square 9:15
Bridge 9:25
Church 9:40

We missed the first and the second. The third we caught because his mother was late.""",
        "notes with bullets and hours": """9:15 * Left the house in the dark.
10:40 * Reached the pass. Snow up to the knee.
13:20 * Ate the last of the bread, and looked at the lake.
16:00 * Down again, with one glove.""",
        "minutes in a mystery": """21:04: The lamp in the study goes out.

21:10: The cook hears a step on the gravel, and thinks that it is the doctor.

21:25: The doctor arrives, and says that he has only just left his house.

21:40: The study is opened. The window is open, the lamp is warm, and the colonel is asleep in his chair with a smile on his face and no shoes on his feet.""",
        "stage directions with times": """10:05 Mr. Hale opened the meeting, and asked for silence.
10:20 Mrs. Berg spoke about the drains. She spoke until 10:55.
11:00 The drains were voted on, and were left as they are.
11:05 Mr. Hale closed the meeting and thanked the cook.""",
        "telegraph days": """Monday: wind, and nothing done.
Tuesday: wind again. The boat was to come today.
Wednesday: no wind, no boat.
Thursday: the boat.
Friday: we are at sea, and I would give a good deal for Monday.""",
    },
    "social": {
        "two links": """I have been reading an essay (https://a.example/rivers) on rivers, and the reply (https://b.example/reply) of those who doubted it, and I think that the first was right.""",
        "sentence with handles": """Thanks to @anna and @tom for reading this before it went out, and to the baker, who has no account and read it over the counter.""",
        "link and handle": """As @marta pointed out to me (https://c.example/letters/12), the bridge is older than the road that leads to it.""",
        "emoji in a diary": """Rain again, and nobody on the towpath but me and the heron 🌧️. He had caught nothing, and neither had I.

Tea ☕ and the fire. I have begun the long letter to Agnes, and have got as far as the weather.

The sun came out at four 🌞 and went in at five past, as if it had seen enough 🙂.""",
        "obsidian tags between prose": """I walked to the weir with the dog and thought about the roof. It wants doing before the autumn, and I want not to be the one who does it. #house

There is a kind of person who mends a roof while the sun shines. I have met two, and they did not seem to enjoy the sun.""",
        "numbered aphorisms": """1/ A key that opens every door is not a key but a hole.

2/ The man who counts his steps has never been late, and never been anywhere.

3/ Rain is only weather until the roof leaks.""",
        "sources after an essay": """The figures come from the harbour office and from the two books that I name here: https://d.example/ports and https://e.example/tides were both read in March of last year.

Anyone who doubts them may write to the harbour master, who has a desk by the window and very little to do.""",
        "essay on a network": """The account was called @rivermouth, and it had posted a photograph of the same wave every morning for six years. Nobody knew who took it. Under each there stood the hashtag #again and nothing else, and I looked at it before I looked at the weather.""",
        "one emoji answers": """She sent me a boat ⛵ and an anchor ⚓, and I understood that she had bought the thing after all. I wrote back a single wave.""",
        "letter with hearts": """Dear Lena, the cat is well ❤️, the garden is under snow, and your brother has shaved off his beard and looks like a boiled egg. Come soon ❤️.""",
    },
    "math": {
        "escaped prices": r"""He paid \$40 for the boat, \$5 for the oars, and never asked what they were worth.

\[laughs\] He never told us where the coins had come from.

\*He\* said so \_twice\_, \#1 and \#2.""",
        "prices": """The boat was $40, the oars $5, the rope $2.50, the paint $3 and the argument about the paint was free.""",
        "prices in short": """$40, $5, $2.50 and $3, said the bill: fifty in all, and fifty cents.""",
        "stages of a walk": """Bern → Thun → Spiez → Brig → Visp, and then on foot to the hut.""",
        "path through a menu": """Open File > Settings > Pages > Margins > Wide, and say nothing to the printer.""",
        "rooms and their sizes": """The rooms have 20 m², 14 m², 9 m² and 4 m²; the last is the one I write in.""",
        "folders of windows": r"""The letters are in C:\Users\anna\Documents\letters, the answers in C:\Users\anna\Documents\answers, and the ones that I never sent are in neither.""",
        "commands of tex in prose": r"""I learnt \emph in a day and \textbf in an hour. The rest of that week I spent on tables.""",
        "one command": r"""I set the title with \maketitle, and went to bed before it was dark.""",
        "essay with two formulas": r"""The law can be written in one line, $F = ma$, and it took two thousand years to write it. What stands on the left was known to every carter; what stands on the right was known to nobody, since nobody had thought of asking how quickly a thing grows quicker.

Once it is written down one sees that it says less than it seems to. It tells us what a force does, and leaves it to us to find one.""",
        "letters of the Greeks": """The alphabet begins with α and ends with ω, and most of what the schoolmaster taught us lay between the two, though not, I think, in that order.""",
        "arrows in a recipe": """Butter → pan, onions → butter, and then one waits. The onions tell you when they are done; they stop talking.""",
        "hearts and signs": """She signed every letter with <3, and he with <4, to be on the safe side; and by the end of the summer they had got to <19 and had nothing else to say.""",
    },
    "list": {
        "lines that begin with I": """I got up before it was light.

I made tea, and let it go cold.

I wrote to Anna about the boat.

I walked as far as the weir, and came back by the road.""",
        "lines without a stop": """I remember the mill
I remember the wheel that stood still
I remember the boy with the key
I remember what nobody told me""",
        "lines that begin with ill": """Ill weeds grow in the garden of the just.
Mix them with salt, and they will grow no more.
Civil men have said so, and have been believed.
Ill news, they said, needs neither horse nor road.
I never saw a weed that wanted either.""",
        "psalm": """I will go down to the water
I will wash the dust from my name
I will sit with the ones who are waiting
I will not ask them why they came

I will go up to the mountain
I will lay my coat on the stone
I will look on the roofs of my people
I will come down alone""",
        "numbered verses": """1 And the water stood upon the fields for seven days, and no man sowed.
2 And on the eighth day a boat came, and there was nobody in it.
3 Then said the elders, Let it lie where it has come to rest;
4 for who are we that we should send away a thing that has no master?
5 And they left it there, and the children played in it until the winter.""",
        "dialogue with hyphens": """- Where have you been?

- By the river. I could not sleep.

- All night?

- It is a long river, he said, and sat down.

- You might have told me.

- I might.""",
        "dialogue with dashes": """— Where have you been?

— By the river. I could not sleep.

— All night?

— It is a long river, he said, and sat down.""",
        "dialogue of A and B": """A. Do you hold that a boat is the same boat when every plank has been changed?

B. I hold that it is mine.

A. That was not the question.

B. It was the question of the man who sold me the planks.

A. And what did you say to him?

B. That he could have the boat back, if he could find it.""",
        "bullets of a diary": """- I woke at six and heard the water in the cellar before I saw it. The jars were afloat, and knocked against the stairs as if they wanted to come up; I let them knock, and lit the fire, and waited for Ben. He came at eight with the pump and stayed until it was dark, and would not take anything for it but a jar of plums.

- The second day was dry. We carried the jars out into the sun and washed the mud off them, and there were forty-one, which is two more than I had put there. One of the two had my grandmother's hand on the label, and I have not opened it. Ben says that I should, and that plums do not keep a grudge.""",
        "paragraphs with initials": """J. B. Marsh came to the valley in the year of the great frost, and stayed because the road was closed.

A. Berg, who had the mill, gave him a bed.

T. Hale gave him work, and took it back again when the snow had gone.""",
        "headings of years": """1911 was a dry year. My grandfather dug a second well, and found a spoon.

1912 was wet, and the spoon was put away.

1913 nobody remembers, since it came just before.

1914 took his brothers, and the well was covered with a stone.""",
        "lines that begin with numbers": """3 May. Rose at six. Cold.
4 May. Rose at seven. Colder.
5 May. Did not rise.
6 May. The doctor came, and said that it was the cold.
7 May. Rose at noon, and wrote this.""",
        "aphorisms without a mark": """A bridge is a road that has been brave.

A ferry is a road that has thought better of it.

A ford is a road that was there first.

A flood is a road's idea of a joke.""",
        "lines with commas": """rain,wind,rain: that was the week, and nobody who lived through it could have told you which day was which.""",
        "roman sections with prose": """I

The house stood empty for a year, and in that year the swallows took the hall, the mice the kitchen, and the damp the rest.

II

When my uncle came back from the sea he had a key to it, and a parrot.

III

He gave the parrot the hall. The swallows went to law.""",
    },
    "boilerplate": {
        "javascript": """The plugin is written in JavaScript, and it took a weekend.

JavaScript was made in ten days, and it shows on every one of them.""",
        "terms of service": """Nobody reads the terms of service. They are long, they are dull, and they are written by people who are paid by the hour.

The privacy policy of the baker is that he forgets what you owe him.""",
        "isbn": """The ISBN on the back of the book was that of another book, about bees, which I read first.""",
        "cookies": """We baked cookies all afternoon, and the children ate them as fast as they came out of the oven.

Cookies were a good idea once: a page could remember who you were, and nobody else could.""",
        "newsletter": """My newsletter has eleven readers, and three of them are my mother, who forgot her password twice.

She wrote a newsletter on e-mail for the web site of a museum of post offices.""",
        "prepared by": """Prepared by his aunt for a long winter, he had packed nothing but socks, and it was June when he got off the train with two bags of wool and asked the porter for ice.

Produced, it is said, by a cook who had lost a bet, the dish has outlived the cook, the bet, and the inn in which it was lost; and it is still served there on the first of May.""",
        "project gutenberg": """Most of the novels in this essay can be read at Project Gutenberg, and it was there that I found the one about the ferryman, in an edition so full of misprints that I took it for an experiment. I read it twice before I noticed that a page was missing.

Project Gutenberg had the first volume, and the library in Thun had the second.""",
        "related and back to top": """The climb back to top of the hill took us an hour, and the related articles of clothing were wet through.

We were powered by soup. The mill is powered by the brook, and the brook by the rain.""",
        "liability": """A carrier is liable for the damages that his horse does, but not, the judge held, for those that it thinks of.

The seller gave no warranty, and the buyer asked for none; they had known each other since school, and both of them knew the horse.""",
        "free software essay": """The program is licensed under the same terms as the library on which it is built, and that was the whole of the quarrel: one of them thought that a gift could be taken back.""",
        "sermon": """We do not pray because the river is deep. We pray because the boat is small.

We do not pray because the night is long. We pray because the lamp is low.

We do not pray because the road is hard. We pray because our shoes are thin.

We do not pray because we know the words. We pray because somebody before us did, and stood here, and was cold as well, and went home again and lit a fire.""",
        "copyright in an essay": """Copyright lasted fourteen years at first, and an author who lived longer than his book could see it given away.""",
        "download in a story": """The download took all night. In the morning the web site was gone, and an e-mail said that it had never been there.""",
        "click": """The lock gave a click here, a click there, and then it opened, and we stood in the dark of the hall with our hats in our hands.""",
        "sign in to": """She had to sign in to the portal twice, and log in to the clinic once, before anybody would tell her that the doctor was on holiday.""",
        "acknowledgement": """The map is reproduced by permission of the harbour master, who asked that it be printed upside down, as it hangs in his office.""",
    },
    "repetitive": {
        "sermon with a refrain": """I have been told that the bridge will be built. I have been told it by three mayors, and I have buried two of them.

I say to you that it will be built. It will be built when the children of the upper village and the children of the lower village sit on one bench and quarrel about one apple. It will be built when a man can ask for bread on the other side and be asked only whether he wants it white or brown.

I say to you that it will be built. It will be built of stones that were thrown, and it will be the stronger for every one of them. It will be built by people who cannot add, and paid for by people who cannot spare it, and it will be crossed by people who have forgotten both.

I say to you that it will be built. It will be built in the rain, since if we wait for the sun we shall wait for ever. It will be built at night, since in the daytime we have to eat. It will be built by the lame, because the sound are busy.

I say to you that it will be built. And on the day that it is built nobody will make a speech, and nobody will cut a ribbon, and a dog will be the first across.""",
        "cumulative rhyme": """This is the key that Anna found.

This is the door that was shut and sound,
that took the key that Anna found.

This is the cat that sat on the ground
before the door that was shut and sound,
that took the key that Anna found.

This is the boy who came running round
and fell on the cat that sat on the ground
before the door that was shut and sound,
that took the key that Anna found.

This is the aunt with the purse of a pound
who scolded the boy who came running round
and fell on the cat that sat on the ground
before the door that was shut and sound,
that took the key that Anna found.

This is the lock that the thief had wound,
the night that the aunt with the purse of a pound
had scolded the boy who came running round
and fell on the cat that sat on the ground
before the door that was shut and sound,
that took the key that Anna found.""",
        "song with a refrain": """My love has gone over the water,
And the ferry is tied to the pier.
And the wind, and the wind, and the wind blows north,
And the wind is all I hear.

I asked for a light at the harbour,
And they gave me a light and a beer.
And the wind, and the wind, and the wind blows north,
And the wind is all I hear.

I wrote her a letter on Monday,
It will come to her hand in a year.
And the wind, and the wind, and the wind blows north,
And the wind is all I hear.

If you meet with a girl on the mountain,
Do not tell her that I am still here.
And the wind, and the wind, and the wind blows north,
And the wind is all I hear.""",
    },
    "post": {
        "speech in curly marks": """“I dunno,” he said. “I'm gonna ask my dad.”

“What!?” she cried. “No!! Not again!”

“Yep. Nope. I kinda wanna go home,” said the boy.""",
        "speech in straight marks": """"I dunno," he said. "I'm gonna ask my dad."

"What!?" she cried. "No!! Not again!!"

"Dude, you gotta be kidding," said Ben. "Nah," said Lena, "he's not."

"Haha," she said, "very good.""",
        "speech that goes on": """“I dunno what you want, dude. I gotta be up at six, and you come round here at two in the morning and wanna talk about boats.

“And another thing. I ain't gonna lend you mine!! Nope.”""",
        "speech in single marks": """‘I dunno,’ he said. ‘I'm gonna ask my dad.’

‘No!! Not again!!’ she said, and put down the lamp.""",
        "speech after a dash": """— I dunno. I'm gonna ask my dad.

— Nope. You're gonna ask me!! I'm the one with the key.""",
        "transcript": """Tom: I dunno. We were gonna go down to the river, and then we kinda forgot.

Anna: Yep. We gotta do it some day, though.""",
        "excited diary": """We have the boat!! She floats!! I could have kissed the miller.""",
        "careful review": """The bread is good, and the soup is better. I would recommend it to anyone who has walked there. Four stars, and a fifth for the cat.

A book to be read in one night. Highly recommended.""",
        "essay on films": """It is the best film ever made about a staircase, and the worst film ever made about a marriage.""",
        "narrator who speaks": """I'm gonna tell it the way it was. My dad had the boat, and nobody was to touch it, and so of course I touched it, and went down the river as far as the mill before I found out that there was only one oar and that I dunno how to steer with one oar, or with two.""",
        "smile in a letter": """You will laugh :) but I have bought the house after all. The roof is half a roof, and the well is dry, and there is a pear tree.""",
        "ellipses": """She waited... and the water rose... and then, from the other bank, somebody called her by a name that nobody had used since the school was closed.""",
    },
    "code": {
        "poem with semicolons": """The lamp is lit; the door is shut;
The cat is on the sill;
The one I wait for will not come;
I think I love him still;""",
        "list of a will": """To my son, the boat;
to my daughter, the house (with the cat);
to my brother, what I owe him;
to the parish, the rest.""",
        "address": """Anna Berg
12 Mill Road
Thun

Dear Anna,

The key is under the third stone, and not, as you will think, under the first.""",
        "short lines": """return home
break bread

pass on
what you were told

and put out the light""",
        "lines with colons": """For the soup:
For the bread:

We had written no more than that on the board, and then the guests came, two hours early, and read it, and went away again.""",
        "days with semicolons": """Monday: bread;
Tuesday: soup;
Wednesday: what was left of Tuesday;
Thursday: a walk.""",
        "scene breaks": """She put out the lamp and sat in the dark, and listened to the water.

~~~

In the morning there was a boat under the window, and nobody in it.

~~~

She has it still. It lies in the yard and holds rain.""",
        "capital words of clauses": """FROM the gate a path went down to the water
WHERE the boat had lain since the summer before
UPDATE and correction were all the same to him

He wrote like that for a week, and then his pen broke.""",
        "deep quotation": """>>> I was there (once), and I did not like it.
>>> Nobody was there (but me).
We have quoted each other for so long that I do not know which of us was there.""",
        "words and their meaning": """Work = love made visible, says the poster in the canteen.

Love = work made bearable, somebody has written below it.""",
        "hash before a number": """# 12 was the house of the doctor, and # 14 that of the undertaker, and the street had many jokes about # 13, in which nobody lived.""",
    },
    "faq": {
        "essay that asks itself": """What do we owe to the things that wash up at our feet?

The law is clear about timber. It is less clear about questions, and a letter in a bottle is a question.

How long must one keep a thing before it is one's own?

I have kept the bottle for nine years. I have answered the letter twice.

Who is to say when the owner has stopped looking?

Nobody, I think; and so I put it in the window, where it can be seen from the water.""",
        "interview in two lines": """When did you come to the valley?
I came in the year of the flood, with my father, who had a boat and no money.

What did you live on?
We lived on eels. My mother knew nine ways to cook them, and I know nine ways to hide them under bread.

Why did you stay?
I meant to go, but my boat had a hole in it.

Do you miss the sea?
I have never told anyone, but I never liked it.""",
        "roman history": """Q. Fabius held the hill, and would not come down from it though the whole camp called him a coward.

A. Postumius, who had the horse, lost it in the marsh, and was made consul.

Q. Fabius was then asked whether he was sorry. He said that hills are seldom sorry.""",
        "essay that mentions an FAQ": """The museum has an FAQ, and I have read it.

What is the oldest boat in the collection?

That is the first of its questions, and I should have asked it too. But the answer is a number, and a number is not what I had come for; I had come to be told who had made it, and whether he had been warm.

Where are the oars?

Nobody knows. I thought about that on the train, and I think that I shall go back and ask them in person.""",
    },
    "of several kinds": {
        "recipe story": """My grandmother made this soup on Fridays, when there was no meat, and on Mondays, when there was no money.

Serves: four, or one grandmother
Time: an hour, most of it waiting

Put the onions into the butter and leave the room. When you come back they should be the colour of a violin. Add the stock (a litre, or what there is), the bread, and the cheese; wait; and eat it with your back to the stove.

Note: she never used salt. Note too that nobody ever told her.""",
        "podcast": """[00:01] Anna: Welcome back to the harbour. I'm sitting here with Tom, who has been out on the water since four.

[00:09] Tom: Half past three, if we are counting. The others were still asleep.

[00:15] Anna: And what does one see out there at half past three?

[00:19] Tom: Nothing at all. That is why one goes.""",
        "travel notes": """Day 1: Bern to Thun, by train, with a man who ate an onion.
Day 2: Thun to Spiez on foot. Rain.
Day 3: Spiez. The shoes are drying on the stove, and so am I.
Day 4: over the pass. There is no way to describe it that does not make it smaller.""",
        "film diary": """3/5 The Long Dyke. A man walks along a dyke. I liked the dyke.

4/5 Her Brother's Boat. I cried at the knot. Nobody else did.

2/5 The Mayor. It goes on, and then it goes on.""",
        "ship log": """0600 Wind NW, four. Made sail.
0800 Wind NW, five. Reefed.
1200 Wind W, six. The cook is ill.
1600 Wind W, six. The cook is dead, he says, but he has asked for tea.""",
        "email signature letter": """Hi Tom,

thanks for the photographs. I have put the one with the heron on the wall, and the one with your brother in the drawer.

Could you send me the key to the shed? I think that I left my boots in it, and it has begun to snow.

Thanks in advance
Anna

P.S. The goat is fine.""",
        "tech essay": """When I began to write the parser I thought that a week would do. There are three kinds of token: words, numbers, and what I called "the rest", and the rest was where the week went.

The function parse(text) takes a string and gives back a tree. If the string is empty, so is the tree; if the string is wrong, there is no tree, and the error says where the wrong thing begins. That is all. I use x for the place and n for the length, and x < n holds until the end.

What I learnt is that most of a program is about what happens when x = n. Nobody tells you that at school.

You can find it at https://code.example/parser, and @otter has written a better one.""",
        "philosophy dialogue": """A: If I replace every plank, is it the same boat?

B: It is the same to the harbour master.

A: And to you?

B: I only ever owned the name.

A: Then you own nothing that floats.

B: I have thought so for years.""",
        "poem numbered": """1.

The heron stands in the shallow end
like somebody waiting for a friend.

2.

The friend has written that he will come late.
The heron has nothing to do but wait.

3.

It is a kind of work, to stand.
I have watched him do it, with my bread in my hand.""",
        "letter old": """Bern, 3 May 1911, 9:15 p.m.

Dear brother,

You ask what I do all day. At 6:30 I rise. At 7:00 I open the shop. From 7:00 to 12:00 nobody comes. At 12:00 I close it, so as not to miss anything.

Re the money: I have none. Re the aunt: she is well, and asks about the money.

Your loving
T.""",
        "shopping poem": """bread, butter, soap
a yard of rope
a pound of nails
the price of sails
and, if there is any left, hope""",
        "quotes collection": """“A road is a promise that somebody else keeps.” — my father

“Never lend a man your oars.” — the ferryman

“The best seat is the one by the door.” — my aunt, at every funeral

I have written these down because there is nobody left who says them.""",
        "footnoted essay": """The mill was built in 1611 (see Berg 1911, p. 40; Hale 1954, pp. 12-14), burnt in 1640, built again in 1641, and has burnt three times since, always, the parish book says, on a Friday.

Berg, A. (1911). The Mills of the Upper Valley. Thun: Marsh & Sons, pp. 40-44.

Hale, T. (1954). "Fire and flour." Proceedings of the Valley Society 12(3), 11-19.""",
        "self help list prose": """First, do nothing. It is harder than it sounds, and most people begin with something else.

Second, do one thing, and do it badly. Nobody is looking.

Third, do it again. By now somebody is looking, and you will mind less than you thought.""",
        "speech all caps": """NEVER AGAIN, said the sign on the bridge, and below it somebody had painted: WHY NOT? I walked under it every morning for a year and each time I had a different answer.""",
        "gonna narrator": """So I says to him, you gotta be joking. He wasn't. He took the oars and threw them in, one after the other, and they floated off down to the mill like a couple of ducks. I'm kinda glad he did. I never could row.""",
        "smiley diary": """3 May. Rain :( and no post.

4 May. Sun :) and two letters, one from the bank :(

5 May. I have decided to stop drawing faces in here.""",
        "minutes": """Present: Mrs. Berg, Mr. Hale, Mr. Marsh
Absent: the treasurer

Mr. Hale said that the roof would not last another winter. Mrs. Berg said that it had been saying so itself since 1990. It was agreed to buy a bucket.""",
        "dream log": """2019-05-03: I dreamt that the house had a second cellar, and that my father lived in it.

2019-05-04: nothing.

2019-05-05: the cellar again. He had put up shelves.""",
        "obsidian daily": """# journal

Woke early and read. Walked to the weir. #walk

Wrote to Agnes about the house; she will not like it. #letters #house""",
        "code essay poem": """if you come by the river
then knock at the mill;
else, if you come by the road,
knock harder;
for the miller is deaf on that side
and the dog is asleep.""",
        "copyright page own": """This story is for Anna, who told it to me. You may read it to anyone you like, and change the end, as she did.""",
        "privacy essay": """We have given away our names, our faces and our steps, and have been given in return a map on which we can see where we are. A privacy policy is the receipt. I keep mine in the drawer with the guarantees, and like the guarantees they have all run out.

Cookies, newsletters, terms and conditions: these are the small coins in which one pays.""",
        "book review with stars": """Rating: four stars

The best thing about this book is the weather. It rains in it from the first page to the last, and one comes to look forward to the rain as to a person. I would recommend it. The worst thing is the hero, who carries an umbrella.""",
        "play format": """ANNA. I dunno what you mean.

TOM. You do!! You dunno what you want, is what.

ANNA. Haha. Very good.""",
        "stock exchange": """At 9:30 the market opened at 12,400; at 10:00 it stood at 12,310; by 11:15 it had lost another 200, and at 11:20 my brother telephoned to ask whether it was true that I had sold.""",
        "gutenberg mention short": """The text is on Project Gutenberg.

He gave his savings to Project Gutenberg, and his books to the school.""",
        "produced": """Produced in the valley by the same family since 1840, the cheese has a rind like a road and a heart like a cloud.""",
        "math essay": """Zeno says that Achilles must first reach the place where the tortoise was, and by then it has moved on. Add them up: 1/2 + 1/4 + 1/8 + ... = 1, and the race is over. It took two thousand years to find the nerve to write that "=".

If the tortoise has a start of 100 metres and Achilles runs ten times as fast, he catches it after 111 1/9 metres. I checked it with my daughter, who was the tortoise.""",
        "hashtag essay": """In the winter of the strike the walls said #bread and the banners said #bread, and the baker, who had neither a wall nor a banner, put a loaf in the window with no price on it.""",
        "chat in novel": """She had saved all of it.

"are you up," he had written, at 2:14.

"now i am," at 2:15.

"the water is in the cellar," at 2:15, and then nothing until the morning, when there was a photograph of a boat.""",
        "instructions": """To find the house, take the road to the mill and stop where it stops. Go over the stile. If there is a bull, go back and take the other road.""",
        "reply essay": """Reply to a critic

Mr. Hale says: the bridge was never there. I say that I have stood on it.

Mr. Hale says: he stood on the ferry. I say that the ferry has no railings, and that I remember the railings, since I was sick over them.""",
        "log book": """Joined: 3 May 1974
Left: 4 May 1974

That is all that the club has on my uncle. He told us about it for forty years, and in his telling it was a career.""",
        "wiki talk": """I think the article is wrong about the bridge. It says that the bridge was built in 1911. My grandfather laid a stone of it in 1909, and dropped it, and it is there still.""",
        "lyrics": """(Chorus)
Row, row, the river is slow,
And the mill is a mile behind.

(Verse 2)
I had me a girl and I had me a boat,
And I left one of them on the shore.

(Chorus)
Row, row, the river is slow,
And the mill is a mile behind.""",
        "screenplay": """INT. KITCHEN - NIGHT

ANNA sits at the table. The lamp is low.

ANNA
You said that you would be back by nine.

TOM
I said that I would be back.

He puts the oars down on the table, one after the other.""",
        "I lists": """I. The mill stood at the bend, and the road went round it.

I have lived there all my life, and I never saw the wheel turn.

I do not say that it never did.""",
        "II sections": """I. In the Morning

We set out before it was light, and nobody spoke until the bridge.

II. At Noon

It was too hot to walk, and so we lay under the cart and listened to the flies.

III. In the Evening

They had kept a bed for us, and a soup.

IV. At Night

I could not sleep, and went out to look at the river.""",
        "q in letter": """Q. E. D., as my teacher used to say, and put down the chalk.

A. was there, and B., and the girl whose name I have promised not to write.""",
        "urls in essay": """The map can be seen at http://maps.example/valley, the letters at http://letters.example/berg/1911, and what is left of the mill at the end of the road.""",
        "forum about": """I used to read a forum about pumps. Somebody would write that his leaked, and within the hour eleven people had told him why. "Posted by hotwater," it said, and a date, and a number: 2,310 posts. I often thought about hotwater. He never asked anything himself.

When the forum closed he wrote one last line. It said: solved.""",
    },
}

GOES = {
    "forum": {
        "reddit old": """[–]gravelpit 12 points 3 hours ago
It is always the seal.
permalink embed save report reply

[–]old_socks 3 points 2 hours ago
It is never the seal.
permalink embed save parent report reply

[–]gravelpit 1 point 1 hour ago
ok
permalink embed save parent report reply""",
        "vbulletin": """#1 nils_w 03.05.2019, 10:15
Junior Member
Join Date: May 2019
Posts: 3

Pump hums
It hums and does not pump.

#2 hotwater 03.05.2019, 11:40
Senior Member
Join Date: Jan 2009
Posts: 2,310

Air in the line.
Last edited by hotwater; 03.05.2019 at 11:42""",
        "youtube": """otter77 2 years ago
first!
Reply

finch 2 years ago
the part at 2:14 though
View 3 replies
Reply

mika 1 year ago
who is still watching this
12
Reply""",
        "disqus": """12 Comments

hotwater • 3 years ago
The bit about the heron is wrong, they don't stand like that.
4 ^ | v • Reply • Share ›

Anna B. • 3 years ago
Ours does.
Reply • Share ›

hotwater • 3 years ago
Then yours is stuffed.
2 ^ | v • Reply • Share ›""",
        "board": """Posted by nils_w on 2019-04-02 10:14
Reply #1 | Quote | Report
has anyone got the pump of the old model apart? mine leaks at the seal

Posted by hotwater on 2019-04-02 11:40
Reply #2 | Quote | Report
> nils_w wrote: mine leaks at the seal
take the four screws out and warm it up first""",
        "comments with likes": """14 Comments

Lovely piece, I read it to my mother.
Reply · Like · 3 · 2d

The bit about the hens is so true, ours do the same.
Reply · Like · 1d

Not sure about the ending though.
Like · Reply · 5 · 20h

View 11 more replies""",
        "blog comments": """Tom says:
March 3, 2015 at 4:12 pm
I never knew that about the bridge.
Reply

Lena says:
March 4, 2015 at 9:01 am
My uncle worked on it, they ran out of stone.
Reply

Tom says:
March 4, 2015 at 9:30 am
Typical.
Reply""",
        "board with profiles": """rowan
Joined: May 2011
Posts: 2,310
Location: up north
Anyone else get a rattle above forty?

mika77
Joined: Jan 2014
Posts: 12
Yes, it was the heat shield on mine.

rowan wrote:
Anyone else get a rattle above forty?
Same here, a clamp did it.
Joined: Feb 2015
Posts: 4""",
        "votes": """u/gravelpit · 5 hours ago
The left one, every time. It has the better hinge.
212 points | Reply | Share | Report

u/old_socks · 4 hours ago
Hinges rust. The right one.
87 points | Reply | Share | Report

u/gravelpit · 3 hours ago
Yours maybe.
Reply Share""",
        "news site": """softrain 3 hours ago | parent | next
The port is slower because the compiler cannot see through the call.

kettledrum 2 hours ago | parent | next
Then inline it.
12 points | reply

softrain 1 hour ago | parent | next
It was inlined.
3 points | reply""",
    },
    "chat": {
        "whatsapp us": """5/3/19, 9:15 AM - Anna: Good morning!
5/3/19, 9:16 AM - Ben: Morning. Did the pump come?
5/3/19, 9:20 AM - Anna: Not yet. They say Friday.
5/3/19, 4:02 PM - Ben: It's here.""",
        "irc star": r"""<otter> so it works now
<finch> \o/
* otter bows
<finch> what was it
<otter> the seal""",
        "teams": """[10:14] Berg, Anna
can you see my screen
[10:14] Hale, Tom
no
[10:15] Berg, Anna
and now
[10:15] Hale, Tom
yes""",
        "signal": """Anna: where are you
Ben: bridge
Anna: which
Ben: the broken one
Anna: why""",
        "times and nicks": """[21:04] <otter> anyone here
[21:05] <finch> yes
[21:05] <otter> did the pump come
[21:09] <finch> no, friday they say""",
        "times and names": """21:04 Anna: are you up
21:05 Ben: now I am
21:05 Anna: the water is in the cellar
21:06 Ben: coming""",
        "phone": """[03.02.21, 21:04:11] Anna: are you up
[03.02.21, 21:05:40] Ben: now I am
[03.02.21, 21:05:52] Anna: the water is in the cellar
[03.02.21, 21:06:03] Ben: coming""",
        "server": """21:04 -!- finch [f@host] has joined #pumps
21:05 <finch> hello
21:05 -!- otter [o@host] has quit
21:06 <finch> hello?
21:07 -!- finch [f@host] has left #pumps""",
        "office": """Anna Berg  9:41 AM
is the deck done

Ben Hale  9:42 AM
nearly, two slides to go

Anna Berg  9:43 AM
send it as it is

Ben Hale  9:44 AM
ok""",
        "assistant": """User: Write a toast for my brother.
Assistant: Of course. Here is one that you could use.
User: Shorter.
Assistant: To Ben, who is always late and always worth it.""",
        "nicks": """otter: u there
finch: yep
otter: pump came
finch: finally
otter: wrong size tho""",
    },
    "social": {
        "linkedin": """Thrilled to announce that I have joined the pump team at Hotwater! 🎉🚀 Thanks to @nils for everything. #newjob #pumps #grateful""",
        "another retweet": """RT @hotwater: it is never the seal https://t.example/x""",
        "picture": """Sunday mood ☀️🌊 #weekend #riverlife #nofilter""",
        "handle and tag": """@otterly so this happened today #flood #help""",
        "retweet": """RT @valleynews: the bridge is closed until friday https://t.example/a1""",
        "emoji and tags": """sunset over the weir 🌅🌅 #nofilter #river #home""",
        "thread": """1/ why your roof leaks, a thread 🧵

2/ everyone looks at the tiles. nobody looks at the nails. #roofing

3/ follow @nailguy for more 🔨""",
        "tags alone": """#river #flood #boat #april #home""",
        "handles alone": """@anna @ben @lena @otter look!""",
        "job": """We're hiring! 🚀 Come and build boats with us 👉 https://jobs.example/boats #hiring #boats""",
    },
    "math": {
        "greek names": r"""where $\alpha$ and $\beta$ are in $A$, and $\gamma$ is in $B$.""",
        "epsilon": r"""For every $\epsilon > 0$ there is a $\delta > 0$ such that $|x - y| < \delta$ implies $|f(x) - f(y)| < \epsilon$.""",
        "physics": """The energy is E = ½mv² + mgh, so that v = √(2gh), and with h = 10 m and g = 9.81 m/s² we get v ≈ 14 m/s.""",
        "inline tex": r"""Let $f(x) = x^2$ and $g(x) = \sqrt{x}$; then $f \circ g = \mathrm{id}$ on $[0, \infty)$, and $g'(x) = 1/(2\sqrt{x})$.""",
        "signs": """If a ≤ b and b ≤ c then a ≤ c, and a + d ≤ c + d for all d ∈ ℝ; hence min(a, b) ≤ c.""",
        "display": r"""\[ \int_0^1 x^n \, dx = \frac{1}{n+1}, \qquad \sum_{k=0}^{n} \binom{n}{k} = 2^n \]""",
        "equations": """x + y = 10, x - y = 2, so 2x = 12 and x = 6, y = 4.""",
        "source": r"""\section{Groups}
\label{sec:groups}
A \emph{group} is a set $G$ with a product such that $(ab)c = a(bc)$.
\begin{theorem}
The unit $e$ of $G$ is unique.
\end{theorem}
\begin{proof}
If $e'$ is a unit then $e = ee' = e'$. \qedhere
\end{proof}
As in \cite{berg}, we write $G/H$ for the set of cosets $gH$ of $H$ in $G$.""",
        "read source": r"""A group is a set $G$ with a product such that $(ab)c = a(bc)$ for all $a$, $b$, $c$ in $G$.

The unit $e$ of $G$ is unique. If $e'$ is a unit then $e = ee' = e'$.

We write $G/H$ for the set of cosets $gH$ of $H$ in $G$, and $|G|$ for the number of elements.

Every element $g$ of a finite group has an order, the least $n > 0$ for which $g^n = e$, and it divides $|G|$.

The map from $G$ to $G/H$ takes $g$ to its coset $gH$. It respects the product exactly when $gH = Hg$ for all $g$.""",
    },
    "list": {
        "questions": """- Is the cellar dry?
- Who pays for the roof?
- How old is the boiler?
- May one keep a goat?""",
        "check": """- [ ] call the plumber
- [x] buy a seal
- [ ] pay Hale""",
        "contents with numerals": """I. The Flood
II. The Boat
III. The Schoolmaster
IV. The Old Coins
V. The Sea""",
        "contents without dots": """I The Flood
II The Boat
III The Schoolmaster
IV The Old Coins
V The Sea""",
        "contents with chapters": """CHAPTER I. In which the river rises.
CHAPTER II. In which a boat is found.
CHAPTER III. In which nobody knows whose it is.
CHAPTER IV. In which it is sold.""",
        "contents with pages": """The Flood . . . . . . . . 3
The Boat . . . . . . . . 17
The Old Coins . . . . . . 44
The Sea . . . . . . . . 102""",
        "shopping": """- flour
- thread, black
- lamp oil
- a rope""",
        "steps": """1. Take the lid off.
2. Warm the seal with a cloth.
3. Pull until it comes away.
4. Curse, and fetch the pliers.""",
        "rules of a house": """- Shut the gate.
- Do not feed the goat.
- Hang the key on the second nail.
- Leave the lamp where you found it.""",
        "ingredients": """200 g flour
3 eggs
50 g butter
1 pinch of salt
2 spoons of sugar""",
        "table": """| year | boats | coins |
| --- | --- | --- |
| 1911 | 3 | 40 |
| 1912 | 5 | 12 |
| 1913 | 1 | 7 |""",
        "letters": """a) the boat
b) the oars
c) the rope
d) the anchor""",
    },
    "boilerplate": {
        "old credits": """This etext was produced from the 1911 edition by T. Hale.

Produced by Anna Berg and the Online Distributed Proofreading Team at https://www.pgdp.net""",
        "disclaimer": """Disclaimer: This site is provided as is without warranty of any kind. We shall not be liable for any damages arising from its use.""",
        "ad": """Advertisement

Read more

Share this article""",
        "login": """Sign in to your account or sign up for our newsletter. Follow us on Facebook.""",
        "redistribution": """Redistribution and use in source and binary forms, with or without modification, are permitted provided that the following conditions are met.""",
        "print": """All rights reserved. No part of this publication may be reproduced, stored or transmitted in any form without the prior written permission of the publisher.""",
        "menu": """About us | Contact | Privacy Policy | Terms of Use""",
        "opt out": """This website uses cookies to improve your experience. You can opt out if you wish. Read more. Accept all cookies.""",
        "cookie banner": """We use cookies to improve your experience on our site. By clicking Accept all you agree to our cookie policy.""",
        "script": """Please enable JavaScript to view this page.

This site requires JavaScript.""",
        "imprint": """Copyright © 2011 by Mill Road Press. All rights reserved.

ISBN 978-3-16-148410-0

No part of this book may be reproduced in any form without written permission of the publisher.""",
        "footer": """Terms of Service | Privacy Policy | Cookie Settings

© 2021 Mill Road Ltd. All rights reserved.""",
        "subscribe": """Subscribe to our newsletter. Follow us on Twitter. Share this article. Unsubscribe at any time.""",
        "credits": """Produced by Anna Berg, Tom Hale and the Online Distributed Proofreading Team.

Transcribed from the 1911 edition by T. Hale.""",
        "publisher": """This eBook is for the use of anyone anywhere at no cost. You may copy it under the terms of the Project Gutenberg License included with this eBook or online at www.gutenberg.org.

Project Gutenberg-tm electronic works are owned by the Project Gutenberg Literary Archive Foundation, and the Foundation owns a compilation copyright in the collection of Project Gutenberg-tm electronic works.""",
        "licence": """THE PROGRAM IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING THE WARRANTIES OF MERCHANTABILITY AND FITNESS FOR A PARTICULAR PURPOSE.""",
        "page parts": """Back to top

Skip to main content

Related articles

Add to cart""",
    },
    "post": {
        "who else": """who else is watching this in 2024?? best song ever omg""",
        "reddit": """tbh idk why everyone is so mad about this lol, its just a bridge""",
        "amazon": """Total waste of money!! Broke after 2 days lol. Do not buy. 1/5 stars""",
        "rant": """omg this pump is sooooo bad lol, dont buy it!! total waste of money imo""",
        "small letters": """i cant even rn lol. u have to see it. best show ever imo!!""",
        "stars": """Worst kettle ever!! 1/10 would not recommend. Save your money.""",
        "opinions": """Unpopular opinion: the second one was better. Just my two cents, change my mind lol.""",
    },
    "code": {
        "fence": """```
npm install boats
npm start
```""",
        "c": """int main(void) {
    puts("hello");
    return 0;
}""",
        "python": """def area(w, h):
    if w < 0:
        raise ValueError("w")
    return w * h""",
        "fenced": """```python
boat = find("boat")
print(boat.colour)
```""",
        "fenced with tildes": """~~~
boat = find("boat")
print(boat.colour)
~~~""",
        "prompt": """>>> boat = find("boat")
>>> print(boat.colour)
green""",
        "css": """.boat {
  color: green;
  width: 40px;
}""",
        "query": """SELECT name, colour FROM boats
WHERE colour = 'green'
ORDER BY name;""",
        "update": """UPDATE boats SET colour = 'blue'
WHERE name = 'Agnes';""",
    },
    "faq": {
        "numbers": """FAQ

Q1: What is it?
A1: It is a pump.

Q2: Why does it hum?
A2: There is air in the line.""",
        "marked": """Q: How do I open the valve?
A: Turn it to the left.

Q: And how do I close it?
A: Turn it to the right.""",
        "title and questions": """Frequently Asked Questions

How do I open the valve?

Turn it to the left, and wait for the light.

Can I leave it open at night?

Yes, if the tank is full.

What if the light stays red?

Call the number on the lid.""",
        "pairs": """How do I open the valve?
Turn it to the left, and wait for the light.

Can I leave it open at night?
Yes, if the tank is full.

What if the light stays red?
Call the number on the lid.

Is the lid safe to drink from?
Please do not drink from the lid.""",
    },
}
