/** Texts of the server by their English, which is what the page shows without a translation. */

export const server: Readonly<Record<string, string>> = {
  "cannot be read": "не читается",
  "is left out": "не используется",
  "wrong extension": "неверное расширение",
  "format that trainers skip": "формат, который программы обучения пропускают",
  "too small for the resolution": "мало для разрешения обучения",
  "large part cut off": "отрезается большая часть",
  blurred: "размыто",
  "same pixels": "те же пиксели",
  "nearly the same": "почти одинаковые",
  "text or watermark": "текст или водяной знак",
  "transparency that trainers drop": "прозрачность, которая при обучении пропадёт",
  "EXIF rotation": "поворот в EXIF",
  animation: "анимация",
  "more than one face": "больше одного лица",
  "no caption": "нет подписи",
  "empty caption": "пустая подпись",
  "caption cannot be read": "подпись не читается",
  "byte-order mark": "метка порядка байтов",
  "invisible characters": "невидимые символы",
  "several lines": "несколько строк",
  "misnamed caption": "неверное имя файла подписи",
  "trigger missing": "нет триггера",
  "mentions what is excluded": "упоминает исключённое",
  "trigger twice": "триггер дважды",
  "trigger not first": "триггер не первый",
  "different number of triggers": "разное число триггеров",
  "tag twice": "тег дважды",
  "another separator than a comma": "разделитель не запятая",
  "captions of another kind": "подписи другого вида",
  "letters that are not plain": "необычные символы",
  "tags with underscores": "теги с подчёркиванием",
  "syntax of prompts": "синтаксис промптов",
  "too many tokens": "слишком много токенов",
  "differs from its source": "отличается от источника",
  "caption without an image": "подпись без изображения",
  "not in the vocabulary": "нет в словаре",
  "HTML entities": "сущности HTML",
  "tags with a namespace": "теги с пространством имён",
  "tags of the image's origin": "теги о происхождении изображения",
  "contradictory tags": "противоречивые теги",
  "redundant tags": "избыточные теги",
  "tag in all captions": "тег во всех подписях",
  "tag in one caption only": "тег только в одной подписи",
  "name that trainers ignore or misread":
    "имя, которое при обучении не прочтут или прочтут неверно",
  "images that trainers do not find": "изображения, которые при обучении не найдут",
  "no images": "нет изображений",
  "two images of one name": "два изображения с одним именем",
  "name is a known tag": "имя — известный тег",
  "trigger only in the folder's name": "триггер только в имени папки",
  "regularisation images unused": "неиспользуемые регуляризационные изображения",
  "stale latents": "устаревшие латенты",
  "copy it again, or remove it": "скопируйте заново или удалите",
  "convert or move them; the findings name what reads each":
    "преобразуйте или переместите; в находках сказано, чем их читать",
  "find larger ones, or train at a lower resolution":
    "найдите изображения крупнее или обучайте на меньшем разрешении",
  "crop it yourself, or widen min_bucket_reso and max_bucket_reso":
    "обрежьте сами или расширьте min_bucket_reso и max_bucket_reso",
  "remove it, or find a sharper one": "удалите или найдите резче",
  "keep one of them": "оставьте одно из них",
  "keep the named one, unless they show different things":
    "оставьте названное, если они не показывают разное",
  "save the frame that you want": "сохраните нужный кадр",
  "crop to one, or remove it": "обрежьте до одного или удалите",
  "give each caption the same number of trigger words":
    "пусть в каждой подписи будет одинаковое число триггеров",
  "set max_token_length, or shorten it": "задайте max_token_length или сократите",
  "copy the edit to the source, or delete it and run dsk layout again":
    "перенесите правку в источник или удалите и снова запустите dsk layout",
  "give it the name of its image, or move it to another folder":
    "назовите как изображение или переместите в другую папку",
  "look at the image and remove one": "посмотрите на изображение и уберите один",
  "exclude it if the trigger should mean it; else add images without it":
    "исключите, если его должен означать триггер; иначе добавьте изображения без него",
  "correct it, drop it, or keep it": "исправьте, уберите или оставьте",
  "rename the folder": "переименуйте папку",
  "move them up": "переместите их на уровень выше",
  "fill or remove it": "заполните или удалите",
  "choose a word without a meaning": "выберите слово без значения",
  "dsk reg chooses matching repeats": "dsk reg подберёт повторы",
  "delete them: trainers create new ones": "удалите: при обучении создадутся новые",
  "remove it; for weights: weighted_captions = true in [train]":
    "уберите; для весов: weighted_captions = true в [train]",
  "enlarged {n} times for training": "для обучения увеличивается в {n} раза",
  "{n} of it are cut off": "отрезается {n}",
  "looks like another image": "похоже на другое изображение",
  "save it as PNG or JPEG": "сохраните как PNG или JPEG",
  "unpack it": "распакуйте",
  "give it the suffix of its format": "дайте расширение его формата",
  "rename it without the dot": "переименуйте без точки",
  "name the folder that it points to": "укажите папку, на которую она ведёт",
  "{name}: repeats = {n} makes {steps} steps, not {wanted}: repeats are whole numbers, and concepts are balanced; other --epochs may come nearer":
    "{name}: repeats = {n} даёт {steps} шагов, а не {wanted}: повторы целые, концепты уравновешены; другое --epochs может быть ближе",
  "{name}: even 1 repeat makes {steps} steps in {epochs} epochs, not {wanted}":
    "{name}: даже 1 повтор даёт {steps} шагов за {epochs} эпох, а не {wanted}",
  "{problem}; --epochs {n} makes {steps}": "{problem}; --epochs {n} даёт {steps}",
  "{problem}; use fewer images or a larger batch":
    "{problem}; возьмите меньше изображений или больший пакет",
  "{n} {what}; {low}-{high} are usual for a {kind}: use {change}":
    "{what}: {n}; обычно {low}-{high} ({kind}): {change}",
  "samples in all": "образцов всего",
  "samples an epoch": "образцов за эпоху",
  character: "персонаж",
  style: "стиль",
  garment: "одежда",
  face: "лицо",
  object: "предмет",
  "fewer repeats and more epochs": "меньше повторов и больше эпох",
  "more repeats and fewer epochs": "больше повторов и меньше эпох",
  "fewer images": "меньше изображений",
  "more --steps": "больше --steps",
  "fewer --steps": "меньше --steps",
  "more repeats": "больше повторов",
  "fewer repeats": "меньше повторов",
  "more epochs or {change}": "больше эпох или {change}",
  "fewer epochs or {change}": "меньше эпох или {change}",
  "{most} has {n} samples an epoch and {least} {m}: {change}":
    "{most}: {n} образцов за эпоху, {least}: {m}; {change}",
  "{n} repeats would balance {name}": "{name} уравновесят повторы: {n}",
  "other repeats would balance them": "уравновесят другие повторы",
  "{n} of {all} regularisation images are never used: they make {wanted} samples, training has {samples} an epoch; {change}":
    "{n} из {all} регуляризационных изображений не используются: это {wanted} образцов, а в эпохе обучения {samples}; {change}",
  "use fewer images, or more training repeats":
    "возьмите меньше изображений или больше повторов обучения",
  "the image sizes are unknown: one bucket is assumed; with several buckets an epoch has more batches":
    "размеры изображений неизвестны: считается один бакет; с несколькими пакетов в эпохе больше",
  saving: "сохранение",
  "waiting for another dsk run in this project": "ожидание другой команды dsk в этом проекте",
  "loading PyTorch": "загрузка PyTorch",
  "loading diffusers and transformers": "загрузка diffusers и transformers",
  "loading the base model": "загрузка базовой модели",
  "loading the base model: {name}": "загрузка базовой модели: {name}",
  "reading cached latents": "чтение кэша латентов",
  "reading {name}": "чтение: {name}",
  "preview {n}/{of}": "превью {n}/{of}",
  "writing the report": "запись отчёта",
  validating: "проверка на отложенных",
  "restoring the training state": "восстановление состояния обучения",
  "preparing the network": "подготовка сети",
  "preparing the network and the optimizer": "подготовка сети и оптимизатора",
  "first step": "первый шаг",
  "contact sheets": "листы с миниатюрами",
  "comparing images": "сравнение изображений",
  drawing: "генерация",
  "encoding captions": "кодирование подписей",
  "encoding images": "кодирование изображений",
  training: "обучение",
  "measuring the loss": "измерение потерь",
  batches: "пакетов",
  epochs: "эпох",
  files: "файлов",
  images: "изображений",
  minutes: "минут",
  pixels: "пикселей",
  steps: "шагов",
  tags: "тегов",
  tokens: "токенов",
  without: "без LoRA",
  "epoch {n}": "эпоха {n}",
  "step {n}": "шаг {n}",
  epoch: "эпоха",
  seed: "сид",
  weight: "вес",
  "a suggestion needs two files or more": "для совета нужны хотя бы два файла",
  "a suggestion needs held-out images": "для совета нужны отложенные изображения",
  "the loss on held-out images": "потери на отложенных",
  "the distance of the images to held-out ones": "расстояние до отложенных",
  "{what} at the last file, against {kind}: {n}": "{what} у последнего файла против «{kind}»: {n}",
  "{what} hardly falls after it: {n} at the lowest later file, {kind}":
    "{what}: дальше почти не падает; ниже всех из следующих «{kind}»: {n}",
  "it is the last file: a longer training may be better still":
    "это последний файл: более долгое обучение может быть лучше",
  "after it the loss on held-out images rises: the LoRA overfits":
    "дальше потери на отложенных растут: LoRA переобучается",
  "its images differ from seed to seed by less than half of the base's: it has one image":
    "изображения разных сидов отличаются вдвое меньше, чем у базы: LoRA знает одно",
  "its images are nearer to training images than to held-out ones ({n}): look whether they are copies":
    "изображения ближе к обучающим, чем к отложенным ({n}): проверьте, не копии ли",
  "the run generates {n} preview images, {m} at a time: fewer prompts, or a larger sample_every_n_epochs or sample_every_n_steps, save time":
    "будет {n} превью, по {m} за раз: меньше промптов или больше sample_every_n_epochs или sample_every_n_steps экономят время",
  "another run is training {name} in {folder} now": "в {folder} сейчас обучается {name}",
  "min_snr_gamma = {n} weighs the last timesteps with almost 0, and zero_terminal_snr adds them: leave one of the two out":
    "min_snr_gamma = {n} почти не учитывает последние шаги, а zero_terminal_snr их добавляет: уберите одно",
  "lora_format: a .diffusers.safetensors is for diffusers alone; other programs read a part of it":
    "lora_format: .diffusers.safetensors — только для diffusers; другие прочтут лишь часть",
  "clip_skip = {n} has no effect: {name} always uses the same layer":
    "clip_skip = {n} не действует: у {name} слой всегда один",
  "{name}'s VAE overflows in fp16: it computes in float32":
    "VAE {name} переполняется в fp16: считает в float32",
  "resolution = {n}: {name} was trained at 1024, and generates poor images at small sizes":
    "resolution = {n}: {name} обучена на 1024, малые размеры получаются плохо",
  "{name} has a .txt and a .caption: the .txt is used":
    "у {name} есть .txt и .caption: берётся .txt",
  "{n} of {all} regularisation images are not used in an epoch":
    "за эпоху не используются {n} из {all} регуляризационных",
  "masked_loss: {n} of {all} images have no mask and count fully":
    "masked_loss: у {n} из {all} нет маски, они считаются целиком",
  program: "программа",
  weights: "веса",
  activations: "активации",
  "text activations": "активации текста",
  "cached text": "кэш текста",
  "encoded captions": "коды подписей",
  encoding: "кодирование",
  "weight changes": "изменения весов",
  streamed: "подгружается",
  "a perceptual hash (128 bits of shape, and the mean colour; the review page uses it too), for every pair: a difference of at most 12 bits and 32 levels: every image of a group except the best (a format that trainers read, the most pixels, then the sharpest)":
    "перцептивный хеш (128 бит формы и средний цвет) каждой пары: разница до 12 бит и 32 уровней; названы все, кроме лучшего в группе",
  "the captions of each training folder with 4 or more: a tag of the vocabulary that is not a trigger is in all of them":
    "папки обучения с 4 и более подписями: тег из словаря, не триггер, есть во всех",
  "the captions of all training folders, if there are 4 or more: a tag is in one of them":
    "подписи всех папок обучения (от 4): тег только в одной",
  "the scale factor from the image to its bucket, as the trainer computes it: more than --upscale (1.05)":
    "во сколько раз увеличивается до бакета: больше --upscale (1.05)",
  "the share of the area that the bucket cuts off: more than --cut (0.2)":
    "доля площади, которую отрезает бакет: больше --cut (0.2)",
  "a hash of all pixels, upright and in sRGB, of near-duplicates of one size: equal hashes: every image of a group except the best":
    "хеш всех пикселей: равен; названы все, кроме лучшего в группе",
  "the file `<stem>.txt` beside each training image: no caption file, under this or any other suffix":
    "файл `<stem>.txt` рядом с изображением: подписи нет",
  "tags in normal form (case, `_`, brackets): one is there more than once":
    "теги в нормальной форме: один встречается дважды",
  "each tag of up to 5 words except triggers, in normal form, against the 10,861 tags of the WD taggers: it is not one of them; for the 40 most common ones the nearest tag is named":
    "каждый тег и 10,861 тег WD: его там нет; для 40 частых назван ближайший",
  "each image is decoded, at full or (if the format allows it) at reduced size: decoding fails: damaged, truncated, empty, not an image, over --max-pixels, a link, an unprintable name":
    "каждое изображение декодируется: не удалось (повреждено, обрезано, пусто), больше --max-pixels, ссылка или непечатаемое имя",
  "the format of the content, against the suffix of the name: the suffix of another format, or one in mixed case such as `.Jpg`, which trainers do not find":
    "формат содержимого и расширение: не совпадают, или смешанный регистр, как `.Jpg`",
  "the blur effect of Crete et al. (2007) at a long edge of 512 pixels, from 0 (sharp) to 1: --blur (0.55) or more; sharp photos and drawings have 0.2 to 0.35, after a Gaussian of 2 pixels 0.52 to 0.66":
    "размытие при длинной стороне 512, от 0 (резко) до 1: --blur (0.55) и больше",
  "lines of text that PaddleOCR's detector finds at a long edge of 768 pixels: a score of --text (0.7) or more":
    "строки текста, найденные PaddleOCR: оценка --text (0.7) и больше",
  "the frames of the file: more than 1": "кадры файла: больше одного",
  "the tags of the file: no tags, or an empty file": "теги файла: нет ни одного",
  "the lines that are not blank: more than 1": "непустые строки: больше одной",
  "the triggers: --trigger, else dsk.toml, else those that a command set, else the tags outside the vocabulary that most captions of a folder begin with, else the concept in the name of the folder, where most captions begin with it: one of them is not in the caption":
    "триггеры (--trigger, dsk.toml, заданные командой или общие в начале подписей): одного нет в подписи",
  "tokens of the caption, by the tokenizer of the base model in [train], else by CLIP's: more than [train] max_token_length (75, 150 or 225), or than a transformer reads":
    "токены подписи: больше max_token_length (75, 150 или 225) или чем читает модель",
  "the stems of `.txt` and `.caption` files: no image has that stem, nor a file that is left out, such as a HEIC or a video":
    "имена `.txt` и `.caption`: нет изображения с таким именем",
  "concept folders: there is no image in it": "папки концептов: изображений нет",
  "checking the LoRA": "проверка LoRA",
  "plotting the loss": "график потерь",
  "looking for changes": "поиск изменений",
  "reading the dataset": "чтение набора",
  "drawing the LR schedule": "график скорости обучения",
  "reading the base model's hash": "хеш базовой модели",
  "reading the shards": "чтение шардов",
  "writing the table": "запись таблицы",
  "no NVIDIA card: training on the CPU takes hours, except with the tiny base":
    "нет карты NVIDIA: обучение на CPU идёт часами, кроме базы tiny",
  "PyTorch is not installed, so nothing trains here: {n}":
    "PyTorch не установлен, обучать нельзя: {n}",
  last: "последняя",
  "{what}, probe {n} of {m}": "{what}, проба {n} из {m}",
};
