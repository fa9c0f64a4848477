/** The tab History. */

export const history = {
  "history.empty": "Изменений пока нет.",
  "history.empty.hint": "Каждое изменение набора появится здесь, и его можно отменить.",
  "history.question": "Что можно отменить?",
  "history.answer":
    "Всё, что dsk записала в набор: подписи, переименования, перемещения и исключения. Результаты обучения — отдельные файлы.",
  "history.when": "Когда",
  "history.command": "Команда",
  "history.what": "Что",
  "history.operations": "Файлы",
  "history.open": "прервано",
  "history.undone": "отменено",
  "history.undone.count": {
    one: "отменена {n} запись",
    few: "отменены {n} записи",
    many: "отменено {n} записей",
    other: "отменены {n} записи",
  },
  "history.changes": "Что изменилось",
  "history.more": { one: "и ещё {n}", few: "и ещё {n}", many: "и ещё {n}", other: "и ещё {n}" },
  "history.undo": "Отменить до этого места…",
  "history.undo.title": "Отмена: {title}",
  "history.undo.what": {
    one: "Будет отменена {n} запись:",
    few: "Будут отменены эта и более новые, всего {n}:",
    many: "Будут отменены эта и более новые, всего {n}:",
    other: "Будут отменены эта и более новые, всего {n}:",
  },
  "history.undo.start": {
    one: "Отменить {n} запись",
    few: "Отменить {n} записи",
    many: "Отменить {n} записей",
    other: "Отменить {n} записи",
  },
} as const;
