// What the page says, in English and Chinese.
export const TEXTS = {
  en: {
    title: "Care exchange, live", feed: "Send demo HL7 v2 feed", metadata: "Capabilities", api: "API", close: "Close",
    other: "中文", messages: "HL7 v2 messages", Observation: "Observations", Flag: "Flags", Task: "Tasks", CarePlan: "Care plans",
    notifications: "Notifications", empty: "nothing yet", sending: "Sending messages over MLLP …",
    sent: (n, bad) => `${n} messages sent, ${bad} not accepted`, lost: "The server does not answer; trying again …",
    failed: "The feed failed: ", resources: "resources", history: "History", raw: "As JSON", ack: "answer", deleted: "deleted",
    totals: (n) => `${n} changes in the log`, dead: "dead letter", processed: "processed", received: "received", error: "error", duplicate: "duplicate", filtered: "filtered",
  },
  zh: {
    title: "诊疗信息实时交换", feed: "发送 HL7 v2 演示消息", metadata: "能力声明", api: "接口文档", close: "关闭",
    other: "English", messages: "HL7 v2 消息", Observation: "检验与观察", Flag: "警示标记", Task: "任务", CarePlan: "随访计划",
    notifications: "通知", empty: "暂无", sending: "正在通过 MLLP 发送消息……",
    sent: (n, bad) => `已发送 ${n} 条消息，${bad} 条未被接受`, lost: "服务器没有应答，正在重试……",
    failed: "发送失败：", resources: "资源", history: "历史版本", raw: "查看 JSON", ack: "应答", deleted: "已删除",
    totals: (n) => `日志共 ${n} 次变更`, dead: "死信", processed: "已处理", received: "已接收", error: "错误", duplicate: "重复", filtered: "已过滤",
  },
};
