// SinkInstance: hands the entries of its input topics to a sink, tries again, dead-letters,
// acknowledges.
#pragma once

#include <deque>
#include <map>
#include <set>

#include "client/topic_finder.h"
#include "runtime/instance.h"

namespace hulse::runtime {

class SinkInstance : public Instance {
 public:
  using Instance::Instance;

 protected:
  virtual Result<std::unique_ptr<connect::Sink>> make_sink(const config::Given& given) {
    return component_.connector->make_sink(given);
  }

 private:
  struct Lane;

  // One entry of a topic on its way through the sink.
  struct Entry {
    Lane* lane = nullptr;  // valid while `life` is the instance's present one
    uint64_t life = 0;
    MessageId id;
    std::shared_ptr<const connect::Records> records;
    size_t open = 0;  // records without a final outcome
    size_t bytes = 0;
    // When the write under way began; there is none after an outcome, until the next try.
    std::optional<aio::TimePoint> writing_since;
    bool alarmed = false;
    std::map<uint32_t, unsigned> attempts;  // of records that were tried again
    std::vector<bool> final;  // of a batch that was split: which records have a final outcome
  };

  // The order of one topic (partition): a retry stops its own lane, not the others.
  struct Lane {
    std::shared_ptr<client::Consumer> consumer;
    std::deque<std::shared_ptr<Entry>>
        entries;  // in the order they came; finished ones leave at the front
    size_t retrying = 0;
  };

  aio::Task<Ended> life() override;
  aio::Task<Result<void>> subscribe();
  aio::Task<Result<void>> subscribe_to(std::string topic,
                                       wire::pb::CommandSubscribe::InitialPosition position);
  aio::Task<void> discover();
  aio::Task<void> pump(Lane& lane);
  aio::Task<void> watch();
  aio::Task<bool> write(std::shared_ptr<Entry> entry, std::vector<uint32_t> chosen);
  aio::Task<void> finish_up();
  aio::Task<void> confirm_acks();
  connect::RecordBatch batch_of(const std::shared_ptr<Entry>& entry, std::vector<uint32_t> chosen);
  void settled(const std::shared_ptr<Entry>& entry, const std::vector<uint32_t>& chosen,
               std::vector<connect::Outcome> outcomes);
  bool splits(const Entry& entry, const std::vector<uint32_t>& chosen,
              const std::vector<connect::Outcome>& outcomes) const;
  aio::Task<void> write_halves(std::shared_ptr<Entry> entry, std::vector<uint32_t> chosen);
  aio::Task<void> measure();
  aio::Task<void> retry(std::shared_ptr<Entry> entry, std::vector<uint32_t> chosen);
  void reject(const std::shared_ptr<Entry>& entry, uint32_t record, const Error& why);
  aio::Task<void> dead_letter(std::shared_ptr<Entry> entry, uint32_t record, Error why);
  Failure failure_of(const Entry& entry, uint32_t record, std::string text,
                     const Error& words) const;
  void close_record(Entry& entry, uint32_t record);
  void finish(Entry& entry);
  void end(Ended ended);
  std::string place(const Entry& entry, uint32_t record) const;
  bool reads_own_dead_letters(const std::string& topic) const;

  uint64_t life_ = 0;
  std::unique_ptr<connect::Sink> sink_;
  std::unique_ptr<aio::Gate> work_;
  std::unique_ptr<aio::Event> changed_;  // room, turns, the end
  std::unique_ptr<client::TopicFinder> finder_;
  std::deque<Lane> lanes_;
  bool writing_ = false;
  size_t in_flight_bytes_ = 0;
  uint64_t seen_records_ = 0;
  uint64_t seen_bytes_ = 0;
  std::optional<Ended> ended_;
  std::shared_ptr<client::Producer> dead_letters_;
  bool opening_dead_letters_ = false;
};

}  // namespace hulse::runtime
